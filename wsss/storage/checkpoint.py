"""Weights: write and read our safetensors, and read published checkpoints as pure data."""

from __future__ import annotations

import codecs
import functools
import json
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from wsss.errors import CheckpointError, MissingError
from wsss.storage.files import absent, replacing

HEADER = "wsss"  # the one key of the safetensors metadata; its value is JSON
WRAPPERS = (
    "state_dict",
    "model",
    "net",
    "module",
)  # keys under which published files nest their tensors

KeyTable = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Layout:
    """How a published checkpoint names its tensors.

    dropped: patterns of keys to leave out, such as repeated names and index tables. table: rules
    (pattern, replacement) that turn the other keys into ours. absent: patterns of our keys that the
    file lacks; these weights keep their initial values. `dropped` and `absent` match whole keys.
    """

    table: KeyTable = ()
    dropped: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


def save(path: Path, state: Mapping[str, Tensor], header: Mapping[str, object]) -> None:
    """Write tensors as safetensors; equal tensors and header give equal bytes."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    content = serialize(tensors, {HEADER: json.dumps(header, sort_keys=True)})
    # Not `save_file`: it leaves its own temporary file behind when the process is killed.
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the header of a file that `save` wrote.

    Raises:
        CheckpointError: the file is damaged, or `save` did not write it.
    """
    if not path.is_file():
        raise absent(path)
    try:
        with safe_open(path, framework="pt") as content:
            header = dict(json.loads((content.metadata() or {})[HEADER]))
            return {key: content.get_tensor(key) for key in content.keys()}, header  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not a whole network of ours ({_first_line(error)}). Delete it and train again."
        ) from None


def classes(path: Path) -> list[str]:
    """Return the class names that a network of ours was trained on."""
    names = load(path)[1].get("classes")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{path} does not name its classes. Delete it and train again.")
    return names


def load_foreign(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a published checkpoint; no code in it is run.

    Reads safetensors and PyTorch files, unwraps `state_dict`, `model` and similar keys, and strips the
    prefix `module.` of DataParallel.

    Raises:
        CheckpointError: the file holds code or other objects, is truncated, or is not a checkpoint.
    """
    if not path.is_file():
        raise MissingError(f"The checkpoint {path} does not exist.")
    with path.open("rb") as content:
        start = content.read(512).removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if not start:
        raise CheckpointError(f"The checkpoint {path} is empty. Download it again.")
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<!--")):
        raise CheckpointError(
            f"{path} is a web page, not a checkpoint: the link has expired or needs a login."
        )
    return _tensors(_read_foreign(path), path)


def _read_foreign(path: Path) -> Any:
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as content:
                return {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path} is not whole ({_first_line(error)}). Download it again."
            ) from None
    _check_stored(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        blocked = re.search(r"GLOBAL (\S+)", str(error))
        if not blocked and "Unsupported operand" in str(error):  # the file is not a pickle
            raise CheckpointError(
                f"{path} cannot be read (it is no file of PyTorch). Download it again."
            ) from None
        name = f" ({blocked[1]})" if blocked else ""
        raise CheckpointError(
            f"{path} holds more than tensors{name} and was refused; nothing in it was run. "
            "Ask its authors for a file with the state_dict alone."
        ) from None
    except Exception as error:  # noqa: BLE001  # damaged or hostile bytes can raise any exception here
        raise CheckpointError(
            f"{path} cannot be read ({_first_line(error)}). Download it again."
        ) from None


def _check_stored(path: Path) -> None:
    """Refuse compressed archives: PyTorch never writes them, and a small one can unpack to any size."""
    try:
        with zipfile.ZipFile(path) as content:
            is_packed = any(item.compress_type != zipfile.ZIP_STORED for item in content.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return  # not a zip, or damaged: the reader reports that
    if is_packed:
        raise CheckpointError(f"{path} is compressed, which no checkpoint is. Unpack it first.")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not any(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"{path} holds no tensors by name. Give a file with a state_dict.")
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    return rename(tensors, [(r"^module\.", "")], path)


def rename(
    state: Mapping[str, Tensor], table: KeyTable, where: Path | str = "the checkpoint"
) -> dict[str, Tensor]:
    """Apply every rule (pattern, replacement) to every key; it is an error if two keys become equal."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        new = functools.reduce(lambda name, rule: re.sub(rule[0], rule[1], name), table, key)
        if new in renamed:
            raise CheckpointError(
                f"Two entries of {where} are both called {new!r} here. Remove one of them."
            )
        renamed[new] = value
    return renamed


def adopt(module: nn.Module, path: Path, layout: Layout) -> None:
    """Load a published checkpoint into `module`, whose layers `layout` translates.

    Files of old PyTorch versions lack `num_batches_tracked`; no result depends on it.

    Raises:
        CheckpointError: the file does not fit this network, or cannot be read as pure data.
    """
    dropped, lacking = _any_of(layout.dropped), _any_of(layout.absent)
    published = load_foreign(path)
    weights = {key: value for key, value in published.items() if not dropped.fullmatch(key)}
    state = rename(weights, layout.table, path)
    initial = module.state_dict()
    counters = {key: torch.tensor(0) for key in initial if key.endswith("num_batches_tracked")}
    unchanged = {key: value for key, value in initial.items() if lacking.fullmatch(key)}
    fill(module, counters | unchanged | state, path)


def _any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns) or r"(?!)")


def fill(module: nn.Module, state: Mapping[str, Tensor], where: Path | str) -> None:
    """Load `state` into `module`; keys and shapes must agree exactly.

    Raises:
        CheckpointError: it lists the keys that are missing, left over, or of another shape.
    """
    expected = module.state_dict()
    missing = sorted(expected.keys() - state.keys())
    extra = sorted(state.keys() - expected.keys())
    misshapen = [
        f"{key} {tuple(state[key].shape)} for {tuple(expected[key].shape)}"
        for key in sorted(expected.keys() & state.keys())
        if state[key].shape != expected[key].shape
    ]
    faults = (("missing", missing), ("left over", extra), ("of another shape", misshapen))
    problems = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in faults
        if names
    ]
    if problems:
        raise CheckpointError(f"{where} is not a file of this network: {'; '.join(problems)}.")
    _check_numbers(state, where)
    module.load_state_dict(dict(state))


def _check_numbers(state: Mapping[str, Tensor], where: Path | str) -> None:
    """Refuse weights that are not finite numbers: every result would be empty."""
    for key, value in state.items():
        tiny = value.is_floating_point() and value.element_size() < 2
        if tiny or value.layout is not torch.strided or value.is_quantized or value.is_meta:
            raise CheckpointError(
                f"{where} has {key} in a form that is no plain tensor. Convert it."
            )
        if value.is_complex() or not value.isfinite().all():
            raise CheckpointError(
                f"{where} has weights that are not finite numbers ({key}). "
                "Take another file, or train again."
            )
