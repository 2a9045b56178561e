"""Read arrays of bytes from MATLAB's files of version 5, as SBD has them.

SciPy's reader is not used: damaged files can end its process without a message.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HEADER = 128  # bytes before the first element; the last two say the order of bytes
MATRIX, COMPRESSED = 14, 15  # types of elements
STRUCT, BYTES = 2, 9  # classes of matrices
UINT8 = 2  # type of the element with the values of a matrix of bytes
LARGEST = 1 << 26  # bytes of an element after decompression


@dataclass(frozen=True)
class Matrix:
    """A matrix: its class, its size, and the elements that follow its name."""

    kind: int
    shape: tuple[int, ...]
    parts: list[tuple[int, bytes]]


class MatFile:
    """The matrices of a file, by name."""

    def __init__(self, content: bytes) -> None:
        """Read the matrices; `ValueError` if the file is damaged."""
        if len(content) < HEADER or content[126:128] not in (b"IM", b"MI"):
            raise ValueError("no MATLAB file of version 5")
        self._order = "<" if content[126:128] == b"IM" else ">"
        self._matrices: dict[str, Matrix] = {}
        for kind, data in self._elements(content[HEADER:]):
            if kind == COMPRESSED:
                kind, data = next(self._elements(_inflated(data)))
            if kind == MATRIX:
                with contextlib.suppress(ValueError):  # such as an object, which is no matrix
                    name, matrix = self._matrix(data)
                    self._matrices[name] = matrix

    def values(self, name: str, field: str) -> NDArray[np.uint8]:
        """Return the field of a structure that is a matrix of bytes (H, W); `ValueError` if it is none."""
        structure = self._matrices.get(name)
        if structure is None or structure.kind != STRUCT or len(structure.parts) < 2:
            raise ValueError(f"no structure {name}")
        (_, length), (_, text), *fields = structure.parts
        size = max(self._integers(length)[0], 1)
        names = [text[at : at + size].split(b"\0")[0] for at in range(0, len(text), size)]
        if field.encode() not in names or len(fields) != len(names):
            raise ValueError(f"no field {field}")
        _, matrix = self._matrix(fields[names.index(field.encode())][1])
        if matrix.kind != BYTES or len(matrix.shape) != 2 or not matrix.parts:
            raise ValueError(f"{field} is no matrix of bytes")
        kind, data = matrix.parts[0]
        if kind != UINT8 or len(data) != matrix.shape[0] * matrix.shape[1]:
            raise ValueError(f"{field} has {len(data)} bytes for {matrix.shape}")
        return np.frombuffer(data, np.uint8).reshape(matrix.shape, order="F").copy()

    def _matrix(self, data: bytes) -> tuple[str, Matrix]:
        """Return the name and the content of a matrix."""
        parts = list(self._elements(data))
        if len(parts) < 3 or len(parts[0][1]) < 4:
            raise ValueError("a matrix without a name")
        (_, flags), (_, shape), (_, name), *rest = parts
        kind = self._integers(flags)[0] & 0xFF
        return name.decode("latin-1"), Matrix(kind, self._integers(shape), rest)

    def _elements(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the type and the bytes of each element."""
        at = 0
        while at < len(data):
            kind, size = struct.unpack_from(f"{self._order}II", data, at)
            start, step = at + 8, size if kind == COMPRESSED else size + -size % 8
            if kind >> 16:  # a small element has its size beside its type
                kind, size, start, step = kind & 0xFFFF, kind >> 16, at + 4, 0
            if start + size > len(data) or (step == 0 and start == at + 4 and size > 4):
                raise ValueError("an element that is cut")
            yield kind, data[start : start + size]
            at += 8 + step

    def _integers(self, data: bytes) -> tuple[int, ...]:
        """Return 32-bit integers without sign."""
        if not data or len(data) % 4:
            raise ValueError("a size that is no number")
        return struct.unpack(f"{self._order}{len(data) // 4}I", data)


def _inflated(data: bytes) -> bytes:
    """Return what a compressed element holds, up to a limit; its checksum is compared."""
    stream = zlib.decompressobj()
    content = stream.decompress(data, LARGEST)
    if not stream.eof:
        raise ValueError("a compressed element that is cut or too large")
    return content
