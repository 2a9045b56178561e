"""Reference values of the authors' code, and comparisons that are noted for `make parity`.

A set is a folder with a subfolder per method. `WSSS_GOLDEN` points the tests at another set of the
same layout; what it does not have of weight layouts and rules is taken from here, and values that it
does not have are skipped by name.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fill
import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray

HERE = Path(__file__).parent
CRF_DEVICES = {"": None, ", CRF in PyTorch": "cpu"}  # by what stands behind the name of a case
FORWARD = {"rtol": 1e-4, "atol": 1e-4}  # outputs of networks; atol in units of the largest value


class Arrays(dict[str, NDArray[Any]]):
    """The arrays of a file; a test that asks for one that is not there is skipped."""

    def __init__(self, found: Mapping[str, NDArray[Any]], name: str) -> None:
        super().__init__(found)
        self._name = name

    def __missing__(self, key: str) -> NDArray[Any]:
        pytest.skip(f"{self._name} has no {key}")


class Golden:
    """The reference values of one method.

    scratch: where checkpoints are written.
    """

    def __init__(self, method: str, scratch: Path) -> None:
        self.method, self._scratch = method, scratch
        self.suffix = ""  # of the cases of a test that runs in two ways
        self._folder = Path(os.environ.get("WSSS_GOLDEN", HERE)) / method

    def path(self, name: str) -> Path:
        """Return a file of the set; skips the test if the set has no such values."""
        own, ours = self._folder / name, HERE / self.method / name
        if own.is_file():
            return own
        if ours.suffix == ".npz" or not ours.is_file():
            pytest.skip(f"the set {self._folder} has no {name}")
        return ours

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of an npz; asking for one that it does not have skips the test."""
        with np.load(self.path(name), allow_pickle=False) as found:
            return Arrays(found, name)

    def json(self, name: str) -> Any:
        """Return the content of a JSON file."""
        return json.loads(self.path(name).read_text(encoding="utf-8"))

    def case(self, *names: str) -> Any:
        """Return an entry of cases.json; skips the test if the set has no such case."""
        found = self.json("cases.json")
        for name in names:
            if name not in found:
                pytest.skip(f"the set {self._folder} has no case {'/'.join(names)}")
            found = found[name]
        return found

    def checkpoint(
        self,
        manifest: str,
        scale: Mapping[str, float] | None = None,
        wrapper: str = "",
        prefix: str = "",
        without: str = r"(?!)",
    ) -> Path:
        """Write a checkpoint in the published layout and return its path.

        manifest: `manifest_<manifest>.json` has its keys; `alias_<manifest>.json`, if there, says how the
        names of repeated ones begin, and those that they repeat. scale: factors of the tensors whose whole key matches a pattern.
        prefix: what a file has before each key. without: pattern of keys that are left out.
        """
        shapes = self.json(f"manifest_{manifest}.json")
        shapes = {key: shape for key, shape in shapes.items() if not re.fullmatch(without, key)}
        aliases: dict[str, str] = {}
        if (HERE / self.method / f"alias_{manifest}.json").is_file():
            aliases = self.json(f"alias_{manifest}.json")
        names = {key: canonical(key, aliases) for key in shapes}
        own = {name: shapes[key] for key, name in names.items()}
        state = {key: torch.from_numpy(value) for key, value in fill.state(own).items()}
        for pattern, factor in (scale or {}).items():
            found = [key for key in state if re.fullmatch(pattern, key)]
            assert found, f"no key of {manifest} matches {pattern}"
            for key in found:
                state[key] = state[key] * np.float32(factor)
        state = {prefix + key: state[name] for key, name in names.items()}
        path = self._scratch / f"{manifest}.pth"
        torch.save({wrapper: state} if wrapper else state, path)
        return path

    def close(
        self,
        case: str,
        measured: ArrayLike | torch.Tensor,
        expected: ArrayLike,
        *,
        rtol: float = 0.0,
        atol: float = 0.0,
        absolute: float = 0.0,
        share: float = 1.0,
    ) -> None:
        """Assert that arrays agree: rtol of each value, atol of the largest value, and absolute.

        share: the part of the entries that has to agree.
        """
        ours = _array(measured).astype(np.float64)
        theirs = np.asarray(expected, np.float64)
        assert ours.shape == theirs.shape, f"{case}: shape {ours.shape}, expected {theirs.shape}"
        assert (np.isnan(ours) == np.isnan(theirs)).all(), f"{case}: NaN in other places"
        difference = np.nan_to_num(np.abs(ours - theirs))
        largest = float(np.nan_to_num(np.abs(theirs)).max(initial=0.0))
        allowed = rtol * np.nan_to_num(np.abs(theirs)) + atol * largest + absolute
        agree = float((difference <= allowed).mean()) if difference.size else 1.0
        worst = float(difference.max(initial=0.0))
        limit = ", ".join(
            f"{value:g} {unit}"
            for value, unit in ((rtol, "of the value"), (atol, "of the largest"), (absolute, ""))
            if value
        )
        limit += f" on {share:.1%} of the entries" if share < 1 else ""
        self._note(case, f"{worst:.2g} (largest value {largest:.3g})", limit.strip() or "exact")
        assert agree >= share, (
            f"{case}: {1 - agree:.2%} of {difference.size} entries differ, by up to {worst:.3g} "
            f"where the largest is {largest:.3g}"
        )

    def same(
        self, case: str, measured: ArrayLike | torch.Tensor, expected: ArrayLike, share: float = 1.0
    ) -> None:
        """Assert that label maps, lists or counts are equal on a share of their entries."""
        ours, theirs = _array(measured), np.asarray(expected)
        assert ours.shape == theirs.shape, f"{case}: shape {ours.shape}, expected {theirs.shape}"
        equal = float((ours == theirs).mean()) if theirs.size else 1.0
        allowed = "exact" if share == 1 else f"{share:.1%} equal"
        self._note(case, f"{equal:.3%} equal", allowed)
        assert equal >= share, f"{case}: only {equal:.3%} of {theirs.size} entries are equal"

    def _note(self, case: str, found: str, allowed: str) -> None:
        """Add a line to the file that `make parity` reads."""
        if target := os.environ.get("WSSS_PARITY"):
            row = {
                "method": self.method,
                "case": case + self.suffix,
                "difference": found,
                "tolerance": allowed,
            }
            with Path(target).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def canonical(key: str, aliases: Mapping[str, str]) -> str:
    """Return the name of a tensor that a file repeats under `key`."""
    while alias := next((start for start in aliases if key.startswith(start)), None):
        key = aliases[alias] + key.removeprefix(alias)
    return key


def _array(values: ArrayLike | torch.Tensor) -> NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def unpack(bits: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the 0/1 array of a packed mask."""
    return np.unpackbits(bits)[: int(np.prod(shape))].reshape(shape)
