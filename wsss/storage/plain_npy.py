"""Read the `.npy` files of published code: arrays, and pickled dictionaries of arrays as pure data.

A pickle names functions that its reader calls. Here only those are allowed that put together arrays of
numbers and PyTorch tensors; any other name is refused before anything is called.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from wsss.errors import CheckpointError, DatasetError
from wsss.storage.archive import BROKEN, UNREADABLE, unpack_arrays
from wsss.storage.content import stand_in

ENCODING = "latin1"  # numpy arrays that Python 2 pickled have their bytes as text of this encoding
DAMAGED = (
    *BROKEN,
    *UNREADABLE,
    pickle.UnpicklingError,
    AttributeError,
    ImportError,
    IndexError,
    OverflowError,  # of a length that no machine has
)
NUMPY = ("numpy.core", "numpy._core")  # the name before and since numpy 2


class _Plain(pickle.Unpickler):
    """An unpickler of numbers, texts, containers, arrays and tensors."""

    def __init__(self, content: io.BytesIO, path: str) -> None:
        super().__init__(content, encoding=ENCODING)
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """Return a function of the list; refuse every other."""
        package, _, rest = module.partition(".core.")
        place = f"{package}._core.{rest}" if package == "numpy" and rest else module
        allowed = _allowed().get((place, name))
        if allowed is None:
            raise CheckpointError(
                f"{self._path} holds more than arrays ({module}.{name}) and was refused; nothing in it "
                "was run. Save the arrays alone."
            )
        return allowed


def _allowed() -> dict[tuple[str, str], Callable[..., Any]]:
    """Return the functions that a pickle may call, by module and name."""
    multiarray, numeric = np._core.multiarray, np._core.numeric  # type: ignore[attr-defined]  # not public, but in every pickle
    names: dict[tuple[str, str], Callable[..., Any]] = {
        ("numpy._core.multiarray", "_reconstruct"): multiarray._reconstruct,
        ("numpy._core.multiarray", "scalar"): multiarray.scalar,
        ("numpy._core.numeric", "_frombuffer"): numeric._frombuffer,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("collections", "OrderedDict"): OrderedDict,
        ("_codecs", "encode"): _latin1,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch.storage", "_load_from_bytes"): _storage,
    }
    return names


def _latin1(text: str, encoding: str) -> bytes:
    """Return the bytes that a pickle of protocol 2 keeps as text."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"bytes are encoded as {encoding}")
    return text.encode(encoding)


def _storage(content: bytes) -> Any:
    """Return the numbers behind a pickled tensor; PyTorch reads them as data alone."""
    import torch  # noqa: PLC0415  # only for files that hold tensors

    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _tensor(*parts: Any) -> Any:
    """Return a tensor from its numbers, offset, size and strides."""
    from torch._utils import _rebuild_tensor_v2  # noqa: PLC0415  # as above

    return _rebuild_tensor_v2(*parts)  # type: ignore[no-untyped-call]  # PyTorch's own


def load_arrays(content: bytes, path: str) -> Any:
    """Return what a `.npy` file holds, as `load_npy`, or the arrays of an `.npz` file by their names.

    path: of the file, whose suffix tells them apart.

    Raises:
        CheckpointError: the `.npy` file is damaged, or would run code.
        DatasetError: the `.npz` file is damaged, or another file stands in for either.
    """
    if kind := stand_in(content):
        raise DatasetError(f"{path} is {kind}.")
    if path.lower().endswith(".npy"):
        return load_npy(content, path)
    try:
        return unpack_arrays(content)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}. Replace it.") from None


def load_npy(content: bytes, path: str) -> Any:
    """Return what a `.npy` file holds: an array, or the dictionary that `numpy.save` has pickled.

    path: of the file, for messages.

    Raises:
        CheckpointError: the file is damaged, or would run code.
    """
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        if not dtype.hasobject:
            return np.load(io.BytesIO(content), allow_pickle=False)
        value = _Plain(file, path).load()
    except DAMAGED as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} is not a whole .npy file ({reason}). Replace it.") from None
    return value.item() if isinstance(value, np.ndarray) and value.shape == () else value
