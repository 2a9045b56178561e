"""Published checkpoints as pure data: what a file is, and the tensors in it. No code in it is run."""

from __future__ import annotations

import argparse
import pathlib
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wsss.errors import CheckpointError, MissingError
from wsss.storage.content import stand_in, start_of

Tables = dict[str, dict[str, Tensor]]  # tensors by name, by the keys that lead to them, as in `a.b`

# Keys under which files keep the one network that is meant, as far as they hold others as well.
USUAL_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module")
OF_TRAINING = re.compile(r"optim|sched|scaler|rng|random", re.IGNORECASE)  # no networks
DEEPEST = 3  # keys that lead to tensors
# Classes that only hold values, which training programs save beside their tensors.
HARMLESS = (argparse.Namespace, pathlib.PosixPath)
UNPACK = "Unpack it first"
KINDS = {  # first bytes of files that hold no tensors for PyTorch
    b"\x1f\x8b": f"compressed by gzip. {UNPACK}",
    b"BZh": f"compressed by bzip2. {UNPACK}",
    b"\xfd7zXZ": f"compressed by xz. {UNPACK}",
    b"7z\xbc\xaf": f"an archive of 7-Zip. {UNPACK}",
    b"Rar!": f"an archive of RAR. {UNPACK}",
    b"\x89HDF\r\n": "a file of HDF5, as Keras writes it. Take the authors' file for PyTorch",
    b"\x93NUMPY": "an array of NumPy. Take the authors' file for PyTorch",
    b"\x12\x01\0\0\0\0\0\0": "a file of MXNet. Read it with MXNet's mx.nd.load, and save its tensors by "
    "name with torch.save",
    b"\x89PNG": "an image. Name the file of weights",
    b"\xff\xd8\xff": "an image. Name the file of weights",
    b"%PDF": "a PDF. Name the file of weights",
}


def read(path: Path) -> Tables:
    """Return the tensors of a checkpoint, read by its content, whatever its suffix.

    Raises:
        CheckpointError: the file holds code or other objects, is truncated, or is not a checkpoint.
    """
    if not path.is_file():
        raise MissingError(f"The checkpoint {path} does not exist.")
    start = start_of(path)
    if not start:
        raise CheckpointError(f"The checkpoint {path} is empty. Download it again.")
    if kind := _kind(path, start):
        raise CheckpointError(f"{path} is {kind}.")
    content = _safetensors(path) if _is_safetensors(path, start) else _pickled(path)
    tables = dict(_tables(content))
    if not tables:
        raise CheckpointError(f"{path} holds no tensors by name. Give a file with a state_dict.")
    return tables


def first_line(error: Exception) -> str:
    """Return the first line of an error, or its type if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _kind(path: Path, start: bytes) -> str:
    """Return what a file is, and what to do, if it is no checkpoint; empty if it may be one."""
    by_magic = next((kind for magic, kind in KINDS.items() if start.startswith(magic)), "")
    if start[257:262] == b"ustar":
        return f"a tar archive. {UNPACK}"
    return stand_in(start) or by_magic or (_kind_of_zip(path) if start.startswith(b"PK") else "")


def _kind_of_zip(path: Path) -> str:
    """Return what a zip holds instead of a checkpoint; empty for one, and for a damaged file."""
    try:
        with zipfile.ZipFile(path) as content:
            names = content.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return ""
    if any(name.endswith("/constants.pkl") for name in names):
        return (
            "a program of TorchScript. Load it with torch.jit.load if you trust it, and save its "
            "state_dict()"
        )
    if any(name.endswith("/data.pkl") for name in names):
        return ""
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of NumPy's arrays. Take the authors' file for PyTorch"
    listed = f" ({', '.join(names[:3])})" if names else ""
    return f"a zip archive of {len(names)} files{listed}. {UNPACK}"


def _is_safetensors(path: Path, start: bytes) -> bool:
    """Return whether a file is one of safetensors: a JSON header after eight bytes of its length."""
    is_pytorch = start.startswith((b"PK", b"\x80"))
    return start[8:9] == b"{" or (path.suffix == ".safetensors" and not is_pytorch)


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as content:
            return {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not whole ({first_line(error)}). Download it again."
        ) from None


def _pickled(path: Path) -> Any:
    """Return what PyTorch finds in a file, without running any code in it."""
    _check_stored(path)
    try:
        # Of an open file PyTorch judges the content, and not the suffix.
        with torch.serialization.safe_globals(list(HARMLESS)), path.open("rb") as content:
            return torch.load(content, map_location="cpu", weights_only=True)
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
            f"{path} cannot be read ({first_line(error)}). Download it again."
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


def _tables(content: object, keys: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the tensors of nested dictionaries, by the keys that lead to them: usual keys first."""
    if not isinstance(content, Mapping):
        return
    inner = [str(key) for key, value in content.items() if isinstance(value, Mapping)]
    inner = [key for key in inner if key in content and not OF_TRAINING.search(key)]
    usual = [key for key in USUAL_KEYS if key in inner] if len(keys) < DEEPEST else []
    others = [key for key in inner if key not in usual] if len(keys) < DEEPEST else []
    for key in usual:
        yield from _tables(content[key], (*keys, key))
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        yield ".".join(keys), tensors
    for key in others:
        yield from _tables(content[key], (*keys, key))
