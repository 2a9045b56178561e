"""Files of other programs that are damaged or hold what nobody asked for: how they are made, what is said."""

import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from bad_images import PAGE, dangling, encoded, folder, loop, pipe, written
from bad_weights import Harmful
from brought import COCO, IRN, LABELS, LOGITS, LOGITS_NPZ, NPZ, PSA, Kind, logits, maps, npy
from pond import SIZE

from wsss.storage.archive import pack_arrays

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
HEIGHT, WIDTH = SIZE
Array = np.ndarray[Any, Any]


def changed(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """Return what changes the bytes of a file."""
    return lambda path: path.write_bytes(change(path.read_bytes()))


def flipped(content: bytes) -> bytes:
    """Return bytes of which sixteen in the middle are inverted."""
    middle = len(content) // 2
    inverted = bytes(255 - byte for byte in content[middle : middle + 16])
    return content[:middle] + inverted + content[middle + 16 :]


def promising(shape: tuple[int, ...]) -> bytes:
    """Return a `.npy` file that promises an array of float32 of this shape, and has 64 bytes of it."""
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(64)


def zipped(path: Path, name: str, content: bytes) -> None:
    """Write a zip archive with one member."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": written(b""),
    "half": changed(lambda content: content[: len(content) // 2]),
    "head alone": changed(lambda content: content[:12]),
    "sixteen bytes inverted": changed(flipped),
    "zeros": changed(lambda content: bytes(len(content))),
    "words": written(b"404: Not Found"),
    "web page": written(PAGE),
    "pointer of Git LFS": written(POINTER),
    "picture": written(encoded("PNG")),
    "array": written(npy(np.zeros(3))),
    "command in a pickle": written(pickle.dumps(Harmful(), 2)),
    "command in an array": written(npy({0: Harmful()})),
    "promise of too much": written(promising((2**40, 2**20))),
    "negative size": written(promising((-1, 3))),
    "folder": folder,
    "link that leads nowhere": dangling,
    "link to itself": loop,
    "named pipe": pipe,
}
DAMAGED = (PSA, NPZ, LABELS, COCO, LOGITS)  # one of each reader


@dataclass(frozen=True)
class Odd:
    """Content that can be read, and what is said of it. settings: of the import, beside the path."""

    kind: Kind
    name: str
    content: Any
    said: str
    settings: dict[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind.name}: {self.name}"


def keyed(numbers: object, scores: object, **more: object) -> dict[str, object]:
    """Return a dictionary of IRNet."""
    return {"keys": numbers, "high_res": scores, **more}


def numbered(scores: Array) -> dict[str, object]:
    """Return a dictionary of IRNet with the right numbers."""
    return keyed(np.arange(len(scores)), scores)


def cells(background: Array) -> dict[str, object]:
    """Return a dictionary as this package exports it, with a background."""
    return {"keys": np.arange(2), "cam": maps(), "stride": 1, "background": background}


FORM = "1 file has another form (the first: "
RANGE = "1 image has scores outside [0, 1] (the first: p1, "
FINITE = "scores that are not finite numbers (the first: p"
SHAPE = "another shape than their image or its cells (the first: p1, "
LEVELS = "another number of maps than background and 2 classes (the first: p2, "
STRETCHED: dict[str, object] = {"normalise": "max", "resize": True}
M, L = maps(), logits()
STRANGE = (
    ("complex", lambda a: a.astype(complex), "complex128"),
    ("texts", lambda a: a.astype("U8"), "<U8"),
    ("objects", lambda a: a.astype(object), "object"),
    ("dates", lambda a: a.astype("M8[s]"), "datetime64[s]"),
    ("records", lambda a: a.astype([("a", "f4"), ("b", "f4")]), "[('a', '<f4'), ('b', '<f4')]"),
)
ODD = [
    *(Odd(IRN, name, numbered(cast(M)), f"{FORM}p1, an array of {kind}") for name, cast, kind in STRANGE),
    *(Odd(LOGITS, name, cast(L), f"of {kind}). docs/import.md") for name, cast, kind in STRANGE),
    Odd(IRN, "not a number", numbered(M * np.nan), FINITE),
    Odd(IRN, "not a number, to be scaled", numbered(M * np.nan), FINITE, STRETCHED),
    Odd(IRN, "beyond single precision", numbered(M.astype(float) * 1e300), FINITE),
    Odd(IRN, "below 0", numbered(M - 2), f"{RANGE}-2 to"),
    Odd(IRN, "bytes", numbered((M * 255).astype(np.uint8)), f"{RANGE}0 to 229)"),
    Odd(IRN, "no pixels", numbered(M[:, :0, :0]), f"{SHAPE}0 x 0 for 24 x 40)"),
    Odd(IRN, "no pixels, to be stretched", numbered(M[:, :0, :0]), f"{SHAPE}0 x 0 for", STRETCHED),
    Odd(IRN, "turned", numbered(M.transpose(0, 2, 1)), f"{SHAPE}40 x 24 for 24 x 40)"),
    Odd(IRN, "four axes", keyed(np.arange(1), M[None]), f"{FORM}p1, maps of (1, 2, 24, 40) for"),
    Odd(IRN, "a number too many", keyed(np.arange(3), M), f"{FORM}p1, maps of (2, 24, 40) for 3"),
    Odd(IRN, "numbers that are infinite", keyed(np.array([np.inf, 1]), M), f"{FORM}p1, cannot convert"),
    Odd(IRN, "numbers that are none", keyed(np.array([np.nan, 1]), M), f"{FORM}p1, cannot convert"),
    Odd(IRN, "numbers that are words", keyed(np.array(["a", "b"]), M), f"{FORM}p1, invalid literal"),
    Odd(IRN, "a class beyond the last", keyed(np.array([0, 2**62]), M), "numbers that are no class"),
    Odd(IRN, "the same class twice", keyed(np.array([0, 0]), M), "1 image has no map for a class"),
    Odd(IRN, "no maps", keyed(np.arange(2), None), f"{FORM}p1, an array of object"),
    Odd(IRN, "a stride in words", keyed(np.arange(2), M, stride="x"), f"{FORM}p1, invalid literal"),
    Odd(IRN, "a negative stride", keyed(np.arange(2), M, stride=-4), SHAPE),
    Odd(IRN, "a small background", cells(M[:1, :3, :3]), f"{FORM}p1, a background of (1, 3, 3)"),
    Odd(IRN, "a flat background", cells(M[0]), f"{FORM}p1, a background of (24, 40)"),
    Odd(IRN, "a background of no numbers", cells(M[:1] * np.nan), FINITE),
    Odd(PSA, "a list", [M[0], M[1]], f"{FORM}p1, no dictionary, but ndarray)"),
    Odd(PSA, "a word", "maps", f"{FORM}p1, no dictionary, but ndarray)"),
    Odd(PSA, "nothing in it", {}, "1 image has no map for a class in their labels"),
    Odd(PSA, "names of classes", {"frog": M[0], "newt": M[1]}, f"{FORM}p1, the keys frog, newt)"),
    Odd(PSA, "fractions as classes", {0.5: M[0]}, f"{FORM}p1, the keys 0.5)"),
    Odd(PSA, "a number and its text", {0: M[0], "0": M[1], 1: M[1]}, f"{FORM}p1, the keys 0, 1)"),
    Odd(PSA, "a class below the first", {-1: M[0], 1: M[1]}, "numbers that are no class"),
    Odd(PSA, "a class of many digits", {0: M[0], 2**70: M[1]}, "numbers that are no class"),
    Odd(PSA, "a dictionary inside", {0: {"a": M[0]}, 1: M[1]}, f"{FORM}p1, an array of object"),
    Odd(PSA, "maps of two sizes", {0: M[0], 1: M[1, :9]}, f"{FORM}p1, maps of several shapes"),
    Odd(LOGITS, "not a number", L * np.nan, FINITE),
    Odd(LOGITS, "beyond single precision", L.astype(float) * 1e300, FINITE),
    Odd(LOGITS, "a map too many", np.concatenate([L, L[:1]]), f"{LEVELS}4)"),
    Odd(LOGITS, "no background", L[1:], f"{LEVELS}2)"),
    Odd(LOGITS, "classes as the last axis", L.transpose(1, 2, 0), f"{LEVELS}24)"),
    Odd(LOGITS, "no pixels", L[:, :0, :0], "scores of another shape (the first: p2, 0 x 0 for"),
    Odd(LOGITS, "no pixels, to be stretched", L[:, :0, :0], "another shape (the first: p2, 0 x 0", STRETCHED),
    Odd(LOGITS, "two axes", L[0], f"{FORM}p2, an array (24, 40) of float32)"),
    Odd(LOGITS, "a batch", np.stack([L, L]), f"{FORM}p2, an array (2, 3, 24, 40) of float32)"),
    Odd(LOGITS, "two arrays", {"a": L, "b": L}, f"{FORM}p2, 2 arrays instead of one)"),
    Odd(LOGITS, "truth values", L > 1, f"{FORM}p2, an array (3, 24, 40) of bool)"),
    Odd(LOGITS_NPZ, "two arrays", {"a": L, "b": L}, f"{FORM}p2, 2 arrays instead of one)"),
    Odd(LOGITS_NPZ, "no arrays", {}, f"{FORM}p2, 0 arrays instead of one)"),
]  # fmt: skip

MEMBERS = {  # of an .npz file: its only member, and what is said of it
    "x.txt": (b"words", "1 file has another form"),
    "x.npy": (promising((2**40, 2**40)), "is damaged (cannot reshape"),
    "y.npy": (npy({0: Harmful()}), "is damaged (Object arrays cannot be loaded"),
    "z.npy": (promising((20, 10_000, 10_000)), "is damaged (EOF"),
}

BLOCKS = np.zeros((2, *SIZE), bool)
BLOCKS[0, :12], BLOCKS[1, 12:] = True, True
WHAT = "regions/p1.npz has masks of shape"
BAD_REGIONS: dict[str, tuple[dict[str, Array], str]] = {
    "fractions": ({"masks": BLOCKS.astype(float)}, f"{WHAT} (2, 24, 40) and type float64, not"),
    "no pixels": ({"masks": BLOCKS[:, :0, :0]}, f"{WHAT} (2, 0, 0) and type bool, not"),
    "turned": ({"masks": BLOCKS.transpose(0, 2, 1)}, f"{WHAT} (2, 40, 24) and type bool, not"),
    "one mask without its axis": ({"masks": BLOCKS[0]}, f"{WHAT} (24, 40) and type bool, not"),
    "another name": ({"regions": BLOCKS}, "regions/p1.npz has no array 'masks'"),
}


def good_regions() -> bytes:
    """Return the file of an image with the masks of two regions."""
    return pack_arrays({"masks": BLOCKS})
