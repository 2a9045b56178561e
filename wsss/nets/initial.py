"""Initial weights that no training changed: the file of a network names them instead of repeating them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from wsss.errors import CheckpointError, MissingError
from wsss.nets.backbone import Backbone, InitialPart, Network
from wsss.nets.build import load_backbone
from wsss.runs.inputs import initial_weights_path
from wsss.storage import checkpoint

KEY = "initial"  # of the header of a network's file
FOLDERS = 4  # from the folder of all runs down to the file of a network


def load_initial(net: Network, attribute: str, file: Path) -> None:
    """Load initial weights into the part `attribute` of a network, which notes them."""
    part = getattr(net, attribute)
    load_backbone(part, checkpoint.load(file)[0], file)
    net.initial = {**net.initial, attribute: InitialPart(file.stem, digest(part))}


def digest(part: nn.Module) -> str:
    """Return the SHA-256 of the names, types, shapes and values of all tensors of a part."""
    result = hashlib.sha256()
    for name, tensor in sorted(part.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        result.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        result.update(values.reshape(-1).view(torch.uint8).numpy())
    return result.hexdigest()


def unchanged(net: nn.Module) -> dict[str, InitialPart]:
    """Return the parts of a network that still are as initial weights have them."""
    parts: Mapping[str, InitialPart] = getattr(net, KEY, {})
    return {name: part for name, part in parts.items() if digest(getattr(net, name)) == part.digest}


def without(
    state: Mapping[str, Tensor], parts: Mapping[str, InitialPart], prefix: str = ""
) -> dict[str, Tensor]:
    """Return tensors without those of some parts. prefix: of the network's names in `state`."""
    starts = tuple(f"{prefix}{name}." for name in parts)
    return {key: tensor for key, tensor in state.items() if not key.startswith(starts)}


def completed(
    state: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    parts: Mapping[str, InitialPart],
    prefix: str = "",
) -> dict[str, Tensor]:
    """Return tensors with those of some parts from `present`. prefix: of the network's names."""
    missing = present.keys() - without(present, parts, prefix).keys()
    return {**{key: present[key] for key in missing}, **state}


def save(path: Path, net: nn.Module, header: Mapping[str, object]) -> None:
    """Write the tensors of a network, without the parts that still are as initial weights have them.

    The header names these weights.
    """
    parts = unchanged(net)
    names = {KEY: {name: asdict(part) for name, part in parts.items()}} if parts else {}
    checkpoint.save(path, without(net.state_dict(), parts), {**header, **names})


def restore(net: Network, path: Path) -> None:
    """Fill a network from a file that `save` wrote, and from the initial weights that the file names.

    Raises:
        CheckpointError: the file is of another network.
        MissingError: the initial weights are missing, or not the ones of the file.
    """
    state, header = checkpoint.load(path)
    net.make_room(state)
    parts = _parts(net, path, header.get(KEY, {}))
    for name, part in parts.items():
        _load_again(net, name, part, path)
    checkpoint.fill(net, completed(state, net.state_dict(), parts), path)


def _parts(net: Network, path: Path, entries: object) -> dict[str, InitialPart]:
    """Return the parts that the header of a file names."""
    try:
        parts = {name: InitialPart(**entry) for name, entry in dict(entries).items()}  # type: ignore[call-overload]
        is_whole = all(isinstance(getattr(net, name), Backbone) for name in parts)
    except (TypeError, ValueError, AttributeError):
        is_whole = False
    if not is_whole:
        raise CheckpointError(f"{path} is not a file of this network: it lacks other parts.")
    return parts


def _load_again(net: Network, name: str, part: InitialPart, path: Path) -> None:
    """Load the initial weights that the file at `path` was trained with into a part of a network."""
    folders = path.parents
    file = initial_weights_path(part.weights, folders[min(FOLDERS, len(folders) - 1)])
    advice = f"Run `wsss weights {part.weights}`"
    if not file.is_file():
        raise MissingError(
            f"{file} is missing, which {path} goes with. {advice}, or bring the file."
        )
    load_initial(net, name, file)
    if net.initial[name] != part:
        raise MissingError(
            f"{file} does not have the weights that {path} was trained with. {advice}, bring the file that it "
            "was trained with, or train again."
        )
