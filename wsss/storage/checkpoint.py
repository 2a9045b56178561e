"""Weights: write and read our safetensors, and read published checkpoints as pure data."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from wsss.errors import CheckpointError
from wsss.storage import foreign
from wsss.storage.content import file_and_key
from wsss.storage.files import absent, write_bytes
from wsss.storage.foreign import first_line

HEADER = "wsss"  # the one key of the safetensors metadata; its value is JSON
COUNTER = "num_batches_tracked"
# What PyTorch puts into names: DataParallel's prefix, and that of `torch.compile` at any depth.
WRAPPED = ((r"^module\.", ""), (r"(^|\.)_orig_mod\.", r"\1"))
# The first parts of names under which training programs keep their network.
PREFIXES = ("model", "module", "net", "network", "backbone", "encoder", "student", "teacher", "ema")
MOST_PREFIXES = 8  # ways to leave some of them out

Value = TypeVar("Value")
KeyTable = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Layout:
    """How a published checkpoint names its tensors.

    dropped: patterns of keys to leave out, such as repeated names and index tables. table: rules
    (pattern, replacement) that turn the other keys into ours. absent: patterns of our keys that the
    file lacks; these weights keep their initial values. `dropped` and `absent` match whole keys.
    changes: functions that reshape tensors, by our keys.
    """

    table: KeyTable = ()
    dropped: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    changes: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)


def save(path: Path, state: Mapping[str, Tensor], header: Mapping[str, object]) -> None:
    """Write tensors as safetensors; equal tensors and header give equal bytes."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    content = serialize(tensors, {HEADER: json.dumps(header, sort_keys=True)})
    # Not `save_file`: it leaves its own temporary file behind when the process is killed.
    write_bytes(path, content)


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
            f"{path} is not a whole network of ours ({first_line(error)}). Delete it and train again."
        ) from None


def classes(path: Path) -> list[str]:
    """Return the class names that a network of ours was trained on."""
    names = load(path)[1].get("classes")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{path} does not name its classes. Delete it and train again.")
    return names


def load_foreign(source: Path | str) -> dict[str, Tensor]:
    """Return the tensors of a published checkpoint, a path or `FILE:key`; no code in it is run.

    Reads safetensors and PyTorch files, unwraps `state_dict`, `model` and similar keys, and strips the
    prefixes of DataParallel and of `torch.compile`.

    Raises:
        CheckpointError: the file holds code or other objects, is truncated, or is not a checkpoint.
    """
    file, key = file_and_key(str(source))
    tables = _chosen(foreign.read(Path(file)), key, file)
    if not _is_usual(next(iter(tables))) and len(tables) > 1:
        raise CheckpointError(several(file, tables))
    return rename(next(iter(tables.values())), WRAPPED, file)


def _chosen(tables: foreign.Tables, key: str, file: str) -> foreign.Tables:
    """Return the tables of tensors of a file; the one under `key` alone, if a key is given."""
    if not key:
        return tables
    if key not in tables:
        raise CheckpointError(f"{file} has no tensors under {key!r}, but under {_keys(tables)}.")
    return {key: tables[key]}


def _is_usual(key: str) -> bool:
    """Return whether keys, joined by dots, lead to the network that a file is about."""
    return all(part in foreign.USUAL_KEYS for part in key.split(".")) or not key


def _keys(tables: Iterable[str]) -> str:
    return ", ".join(repr(key) if key else "no key" for key in tables)


def several(file: str, tables: Iterable[str]) -> str:
    """Return the message for a file with several networks, of which the user has to name one."""
    keys = list(tables)
    example = next(key for key in keys if key)
    return f"{file} has tensors under {_keys(keys)}. Name the ones to take, as in {file}:{example}."


def rename(
    state: Mapping[str, Value], table: KeyTable, where: Path | str = "the checkpoint"
) -> dict[str, Value]:
    """Apply every rule (pattern, replacement) to every key; it is an error if two keys become equal."""
    renamed: dict[str, Value] = {}
    for key, value in state.items():
        new = functools.reduce(lambda name, rule: re.sub(rule[0], rule[1], name), table, key)
        if new in renamed:
            raise CheckpointError(
                f"Two entries of {where} are both called {new!r} here. Remove one of them."
            )
        renamed[new] = value
    return renamed


@dataclass(frozen=True)
class Attempt:
    """Tensors of a file under the names of a network.

    key: the keys of the file that lead to the tensors, joined by dots. names: as the file names the
    tensors, by our names. faults: number of tensors that keep it from fitting.
    """

    key: str
    state: Mapping[str, Tensor]
    names: Mapping[str, str]
    faults: int


@dataclass(frozen=True)
class Published:
    """A published checkpoint. source: a path, or `FILE:key`. tables: its tensors, see `foreign`."""

    source: str
    tables: foreign.Tables

    @classmethod
    def read(cls, source: Path | str) -> Published:
        """Read a file, or the part of it that `FILE:key` names."""
        file, key = file_and_key(str(source))
        return cls(str(source), _chosen(foreign.read(Path(file)), key, file))

    def attempt(self, module: nn.Module, layout: Layout) -> Attempt:
        """Return the tensors that fit a network; those that come closest, if none do.

        Raises:
            CheckpointError: several tables of the file fit, and none is under a usual key.
        """
        attempts = [
            attempt
            for key, tensors in self.tables.items()
            for attempt in self._attempts(module.state_dict(), layout, key, tensors)
        ]
        fitting = {attempt.key: attempt for attempt in reversed(attempts) if not attempt.faults}
        usual = [attempt for attempt in attempts if not attempt.faults and _is_usual(attempt.key)]
        if len(fitting) > 1 and not usual:
            raise CheckpointError(several(self.source, reversed(fitting)))
        return usual[0] if usual else min(attempts, key=lambda attempt: attempt.faults)

    def _attempts(
        self,
        expected: Mapping[str, Tensor],
        layout: Layout,
        key: str,
        tensors: Mapping[str, Tensor],
    ) -> Iterator[Attempt]:
        """Yield the tensors of a table under our names, with fewer and fewer prefixes."""
        dropped, lacking = _any_of(layout.dropped), _any_of(layout.absent)
        counters = {name: torch.tensor(0) for name in expected if name.endswith(COUNTER)}
        unchanged = {name: value for name, value in expected.items() if lacking.fullmatch(name)}
        for number, names in enumerate(
            _prefixes_off({name: name for name in tensors}, self.source)
        ):
            used = {name: origin for name, origin in names.items() if not dropped.fullmatch(name)}
            try:
                renamed = rename(used, layout.table, self.source)
            except CheckpointError:
                if not number:
                    raise
                continue
            state = {
                name: layout.changes.get(name, _as_it_is)(tensors[original])
                for name, original in renamed.items()
            }
            whole = counters | unchanged | state
            yield Attempt(key, whole, renamed, sum(map(len, _faults(expected, whole).values())))


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _prefixes_off(names: dict[str, str], source: str) -> Iterator[dict[str, str]]:
    """Yield names of tensors without wrappers, then also without the prefixes of other programs.

    names: as the file names the tensors, by the name that is left of them.
    """
    waiting = [rename(names, WRAPPED, source)]
    for plain in waiting:  # it grows
        yield plain
        firsts = {name.partition(".")[0] for name in plain}
        for prefix in (word for word in PREFIXES if word in firsts):
            try:
                shorter = rename(plain, [(rf"^{prefix}\.", "")], source)
            except CheckpointError:
                continue  # two tensors would have one name
            if len(waiting) < MOST_PREFIXES and shorter not in waiting:
                waiting.append(shorter)


def adopt(
    module: nn.Module,
    source: Path | str,
    layout: Layout,
    advise: Callable[[Published], str] | None = None,
) -> None:
    """Load a published checkpoint into `module`, whose layers `layout` translates.

    source: a path, or `FILE:key`. advise: returns what to do about a file of another network. Files of
    old PyTorch versions lack `num_batches_tracked`; no result depends on it.

    Raises:
        CheckpointError: the file does not fit this network, or cannot be read as pure data.
    """
    published = Published.read(source)
    attempt = published.attempt(module, layout)
    if attempt.faults:
        text = misfit(module.state_dict(), attempt.state, source, attempt.names)
        others = [key for key in published.tables if key != attempt.key]
        more = f" The file also has tensors under {_keys(others)}." if others else ""
        advice = advise(published) if advise else ""
        raise CheckpointError(f"{text}{more}{f' {advice}' if advice else ''}")
    fill(module, attempt.state, source)


def _any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns) or r"(?!)")


def fill(module: nn.Module, state: Mapping[str, Tensor], where: Path | str) -> None:
    """Load `state` into `module`; keys and shapes must agree exactly.

    Raises:
        CheckpointError: it lists the keys that are missing, left over, or of another shape.
    """
    text = misfit(module.state_dict(), state, where)
    if text:
        raise CheckpointError(text)
    _check_numbers(state, where)
    module.load_state_dict(dict(state))


def misfit(
    expected: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    where: Path | str,
    names: Mapping[str, str] | None = None,
) -> str:
    """Return why tensors do not fit a network; empty if they do.

    names: as the file names the tensors, by our names.
    """
    faults = _faults(expected, state)
    shown = {
        "missing": faults["missing"],
        "left over": [(names or {}).get(key, key) for key in faults["left over"]],
        "of another shape": [
            f"{(names or {}).get(key, key)} {tuple(state[key].shape)} for {tuple(expected[key].shape)}"
            for key in faults["of another shape"]
        ],
    }
    problems = [
        f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for kind, keys in shown.items()
        if keys
    ]
    return f"{where} is not a file of this network: {'; '.join(problems)}." if problems else ""


def _faults(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Return the keys that keep tensors from fitting a network, by the kind of the fault."""
    return {
        "missing": sorted(expected.keys() - state.keys()),
        "left over": sorted(state.keys() - expected.keys()),
        "of another shape": [
            key
            for key in sorted(expected.keys() & state.keys())
            if state[key].shape != expected[key].shape
        ],
    }


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
