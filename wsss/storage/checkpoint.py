"""Reading and writing weights: safetensors of our own, and strangers' files read as pure data."""

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
from wsss.storage.files import replacing

HEADER = "wsss"  # the one key of the safetensors metadata; its value is JSON
WRAPPERS = ("state_dict", "model", "net", "module")  # what published files nest their tensors in

KeyTable = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Layout:
    """How a published checkpoint names its tensors.

    dropped: patterns of whole keys that are no weights of ours: repeated names, tables. table: rules
    (pattern, replacement) that turn the other keys into ours. absent: patterns of whole keys of ours
    that such a file does not have; they stay as they are.
    """

    table: KeyTable = ()
    dropped: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


def save(path: Path, state: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors as safetensors; equal tensors and header give equal bytes."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    content = serialize(tensors, {HEADER: json.dumps(header, sort_keys=True)})
    with replacing(
        path
    ) as temporary:  # save_file has a temporary file of its own, which kills leave
        temporary.write_bytes(content)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the header of a file of ours.

    Raises:
        CheckpointError: the file is damaged or was not written by `save`.
    """
    if not path.is_file():
        raise MissingError(f"{path} is missing. Run the stage that makes it (snakemake {path}).")
    try:
        with safe_open(path, framework="pt") as content:
            header = dict(json.loads((content.metadata() or {})[HEADER]))
            return {key: content.get_tensor(key) for key in content.keys()}, header  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not a whole network of ours ({_first_line(error)}). Delete it and train again."
        ) from None


def classes(path: Path) -> list[str]:
    """Return the names of the classes that a network of ours was trained for."""
    names = load(path)[1].get("classes")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{path} does not name its classes. Delete it and train again.")
    return names


def load_foreign(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a published checkpoint without running anything in it.

    Reads safetensors and PyTorch files; unwraps `state_dict`, `model` and the like, and strips the
    `module.` of DataParallel.

    Raises:
        CheckpointError: the file holds code or other objects, is cut short, or is no checkpoint.
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
        if not blocked and "Unsupported operand" in str(error):  # of no pickle at all
            raise CheckpointError(
                f"{path} cannot be read (it is no file of PyTorch). Download it again."
            ) from None
        name = f" ({blocked[1]})" if blocked else ""
        raise CheckpointError(
            f"{path} holds more than tensors{name} and was refused; nothing in it was run. "
            "Ask its authors for a file with the state_dict alone."
        ) from None
    except Exception as error:  # noqa: BLE001  # a stranger's bytes let the reader fail in any way
        raise CheckpointError(
            f"{path} cannot be read ({_first_line(error)}). Download it again."
        ) from None


def _check_stored(path: Path) -> None:
    """Stop at a compressed archive: PyTorch writes none, and a small one can unpack to any size."""
    try:
        with zipfile.ZipFile(path) as content:
            packed = any(each.compress_type != zipfile.ZIP_STORED for each in content.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return  # another format, or damaged: the reader says so
    if packed:
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
    """Apply each rule (pattern, replacement) to every key; two keys that become one are an error."""
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
    """Load a published checkpoint into a network of ours.

    Files of old PyTorch versions lack `num_batches_tracked`, which no result depends on.

    Raises:
        CheckpointError: the file is not one of this network, or not readable as pure data.
    """
    dropped, absent = _any_of(layout.dropped), _any_of(layout.absent)
    kept = {key: value for key, value in load_foreign(path).items() if not dropped.fullmatch(key)}
    state = rename(kept, layout.table, path)
    own = module.state_dict()
    counters = {key: torch.tensor(0) for key in own if key.endswith("num_batches_tracked")}
    added = {key: value for key, value in own.items() if absent.fullmatch(key)}
    fill(module, counters | added | state, path)


def _any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns) or r"(?!)")


def fill(module: nn.Module, state: Mapping[str, Tensor], where: Path | str) -> None:
    """Load `state` into `module`, strictly in both directions and in all shapes.

    Raises:
        CheckpointError: listing what is missing, left over, or of another shape.
    """
    wanted = module.state_dict()
    missing = sorted(wanted.keys() - state.keys())
    extra = sorted(state.keys() - wanted.keys())
    odd = [
        f"{key} {tuple(state[key].shape)} for {tuple(wanted[key].shape)}"
        for key in sorted(wanted.keys() & state.keys())
        if state[key].shape != wanted[key].shape
    ]
    faults = (("missing", missing), ("left over", extra), ("of another shape", odd))
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
    """Stop at weights with which every result would be empty."""
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
