"""Archives of many small files: uncompressed zips with sorted names and a fixed date.

Equal content gives equal bytes, so checksums decide whether a later stage has to run again.
A path may point into an archive: `work/shapes/images.zip/000017.png`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsss.errors import DatasetError, MissingError
from wsss.storage.content import refuse_pipe
from wsss.storage.files import absent, beside, identity, replacing, storing

# What zipfile raises for damaged archives; RuntimeError means that a member has a password.
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError, struct.error)
# What numpy raises for damaged arrays in addition.
UNREADABLE = (KeyError, TypeError, SyntaxError, MemoryError, tokenize.TokenError)
Array = NDArray[Any]

FIXED_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can hold


class Writer:
    """Write an archive whose members may be added in any order; closing it sorts them by name.

    Members wait in a spool file beside the archive, so memory does not grow with their number.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._spans: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> Writer:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._spool_path = beside(self._path, "spool")
        self._spool = self._spool_path.open("w+b")
        return self

    def add(self, name: str, content: bytes) -> None:
        """Add one member; a name used twice is an error."""
        if name in self._spans:
            raise DatasetError(f"{self._path} would hold {name!r} twice. Give images unique names.")
        self._spans[name] = (self._spool.tell(), len(content))
        with storing(self._path):
            self._spool.write(content)

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                with replacing(self._path) as temporary:
                    self._write_sorted(temporary)
        finally:
            with contextlib.suppress(OSError):  # a full disk was already reported
                self._spool.close()
            self._spool_path.unlink(missing_ok=True)

    def _write_sorted(self, path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(self._spans):
                offset, size = self._spans[name]
                self._spool.seek(offset)
                archive.writestr(zipfile.ZipInfo(name, FIXED_DATE), self._spool.read(size))


class Reader:
    """Read members by name; each process opens the archive itself, so workers can share a reader."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive: tuple[int, zipfile.ZipFile] | None = None

    def _open(self) -> zipfile.ZipFile:
        if self._archive is None or self._archive[0] != os.getpid():
            try:
                refuse_pipe(self.path)
                self._archive = (os.getpid(), zipfile.ZipFile(self.path))
            except FileNotFoundError:
                raise absent(self.path) from None
            except PermissionError:
                raise
            except BROKEN:
                raise self._damaged() from None
        return self._archive[1]

    def _damaged(self) -> MissingError:
        return MissingError(f"{self.path} is damaged. Delete it and run again.")

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_archive": None}

    def names(self) -> list[str]:
        """Return the names of all members, sorted."""
        return sorted(self._open().namelist())

    def has(self, name: str) -> bool:
        """Return whether the archive holds a member."""
        return name in self._open().NameToInfo

    def read(self, name: str) -> bytes:
        """Return one member; `MissingError` if the archive does not hold it."""
        try:
            return self._open().read(name)
        except KeyError:
            raise MissingError(
                f"{self.path} holds no {name!r}: it was made from other data. Delete it and run again."
            ) from None
        except BROKEN:
            raise self._damaged() from None


def before_crf(name: str) -> str:
    """Return the member with the labels of the image `name` before the CRF, beside `<name>.png`."""
    return f"before_crf/{name}.png"  # no name of an image has a slash


def join(parts: Iterable[Path], writer: Writer) -> None:
    """Add all members of `parts` to an archive; its bytes do not depend on how they are split."""
    for part in parts:
        reader = Reader(part)
        for name in reader.names():
            writer.add(name, reader.read(name))


def pack_arrays(arrays: Mapping[str, Array]) -> bytes:
    """Return arrays as an uncompressed npz file; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", FIXED_DATE), member.getvalue())
    return buffer.getvalue()


def unpack_arrays(content: bytes) -> dict[str, Array]:
    """Return the arrays of an npz file; pickled objects are refused.

    Raises:
        DatasetError: the file is damaged.
    """
    try:
        with np.lib.npyio.NpzFile(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name]) for name in arrays.files}
    except (*BROKEN, *UNREADABLE) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(f"an archive of arrays is damaged ({reason})") from None


@functools.lru_cache(maxsize=8)
def _reader(path: Path, _place: Path, _identity: tuple[int, ...]) -> Reader:
    """Return the reader of an archive; each process opens it once, and again if it has changed."""
    return Reader(path)


def read_path(path: Path) -> bytes:
    """Return the bytes of a file, or of an archive member if the path leads into an archive."""
    for parent in _archives_above(path):
        reader = _reader(parent, parent.absolute(), identity(parent))
        return reader.read(path.relative_to(parent).as_posix())
    try:
        refuse_pipe(path)
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingError(
            f"{path} is missing. `wsss data check` lists everything that is."
        ) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DatasetError(f"{path} cannot be read ({reason}). Make it a readable file.") from None


def file_of(path: Path) -> Path:
    """Return the file behind a path: the archive if the path leads into one, else the path itself."""
    return next(_archives_above(path), path)


def _archives_above(path: Path) -> Iterator[Path]:
    return (parent for parent in path.parents if parent.suffix == ".zip" and parent.is_file())
