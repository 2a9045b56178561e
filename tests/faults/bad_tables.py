"""Masks, tables and indexes that are wrong: how they are made and what is said of them."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bad_images import BOMB, PAGE, cut, encoded, folder, large, pipe, written
from made_data import mask
from PIL import Image
from pond import HEAD, SIZE, SPLITS, row

from wsss.storage.files import read_json, write_json

MASK = "masks/p1.png"
TABLE = "images.csv"
INDEX = Path("work/ponds/index/train.json")
NO_INDEX = f"{INDEX} is not an index ("
NO_JSON = f"{INDEX} is not valid JSON ("
TORN = "train_truth.json is of another index than the files beside it"


@dataclass(frozen=True)
class Bad:
    """Something wrong in a pond: how it is made in its folder, and what is said of it."""

    name: str
    make: Callable[[Path], object]
    said: str


def masked(name: str, make: Callable[[Path], object], said: str) -> Bad:
    """Return a case that replaces the mask of the second image."""
    return Bad(name, lambda pond: make(pond / MASK), said)


def table(name: str, said: str, *rows: str, head: str = HEAD) -> Bad:
    """Return a case whose table has these rows after three good ones."""
    text = "\n".join([head, *(row(n, SPLITS[n]) for n in (0, 2, 3)), *rows]) + "\n"
    return raw(name, said, text.encode())


def raw(name: str, said: str, content: bytes) -> Bad:
    """Return a case whose table has this content."""
    return Bad(name, lambda pond: (pond / TABLE).write_bytes(content), said)


def index(name: str, said: str, change: Callable[[Any], object]) -> Bad:
    """Return a case whose index of training images was edited."""

    def make(pond: Path) -> None:
        content = read_json(pond / INDEX)
        change(content)
        write_json(pond / INDEX, content)

    return Bad(name, make, said)


def index_file(name: str, said: str, change: Callable[[bytes], bytes]) -> Bad:
    """Return a case whose index of training images has other bytes."""
    return Bad(
        name, lambda pond: (pond / INDEX).write_bytes(change((pond / INDEX).read_bytes())), said
    )


def saved(picture: Image.Image, **options: object) -> Callable[[Path], object]:
    """Return what writes a picture as PNG, whatever its file is called."""
    return lambda path: picture.save(path, "PNG", **options)


def jpeg(path: Path) -> None:
    """Write labels as JPEG, which blurs them into others."""
    labels = np.random.default_rng(0).integers(0, 3, SIZE).astype(np.uint8) * 127
    Image.fromarray(labels).save(path, "JPEG", quality=50)


LETTERS = saved(Image.new("RGB", SIZE[::-1], (128, 0, 0)))
DEEP = saved(Image.fromarray(np.ones(SIZE, "<u2")))
BAD_MASKS = [
    masked("another size", lambda p: mask(p, 1, size=(24, 30)), f"{MASK} is 30 x 24 px, its image"),
    masked("turned", lambda p: mask(p, 1, size=SIZE[::-1]), f"{MASK} is 24 x 40 px, its image"),
    masked("one pixel", lambda p: mask(p, size=(1, 1)), f"{MASK} is 1 x 1 px, its image"),
    masked("a class too many", lambda p: mask(p, 3), "has the value 3, but labels are 0 to 2"),
    masked("254", lambda p: mask(p, 254), "has the value 254, but labels are 0 to 2"),
    masked("saved as JPEG", jpeg, "do not save masks as JPEG"),
    masked("colours", LETTERS, f"The mask {MASK} has colours (RGB)"),
    masked("colours and alpha", saved(Image.new("RGBA", (40, 24))), "has colours (RGBA)"),
    masked("16 bits", DEEP, f"The mask {MASK} has colours (I;16)"),
    masked("one bit", saved(Image.new("1", (40, 24), 1)), f"The mask {MASK} has colours (1)"),
    masked("empty", written(b""), f"The mask {MASK} is not an image"),
    masked("web page", written(PAGE), f"The mask {MASK} is not an image"),
    masked("half", cut("PNG", 0.5), f"The mask {MASK} "),
    masked("bomb", written(large(20_000, 20_000)), BOMB),
    masked("absent", lambda p: p.unlink(), f"{MASK} is missing"),
    masked("folder", folder, f"{MASK} cannot be read (Is a directory)"),
    masked("named pipe", pipe, f"{MASK} cannot be read (it is a pipe or a device)"),
    Bad("a photograph", lambda p: shutil.copy(p / "photos/p1.png", p / MASK), "has colours (RGB)"),
]

P1 = "photos/p1.png"
WIDE = "x" * 200_000
BAD_TABLES = [
    raw("empty", "images.csv has no column 'image' (it has none).", b""),
    raw("only line ends", "images.csv has no column 'image'", b"\n\n\n"),
    raw("only a head", "images.csv has no rows. Write one for each image.", f"{HEAD}\n".encode()),
    raw("not UTF-8", "is not a CSV table in UTF-8", f"{HEAD}\nKr\xf6te.png".encode("latin-1")),
    raw("UTF-16", "is not a CSV table in UTF-8", HEAD.encode("utf-16")),
    raw("a picture", "is not a CSV table in UTF-8", encoded("PNG")),
    raw("a web page", "images.csv is a web page: the link has expired", PAGE),
    raw("NUL bytes in the head", "images.csv has no column 'image'", b"im\0age,labels,split\n"),
    raw("separated by semicolons", "separated by commas.", HEAD.replace(",", ";").encode()),
    raw("separated by tabs", "separated by commas.", HEAD.replace(",", "\t").encode()),
    table("no column labels", "has no column 'labels'", head="image,split,mask"),
    table("a column twice", "unknown or doubled column", head=f"{HEAD},image"),
    table("an unknown column", "unknown or doubled column", head=f"{HEAD},colour"),
    table("a cell too few", "images.csv, line 5: more or fewer cells", f"{P1},frog"),
    table("a cell too many", "images.csv, line 5: more or fewer", f"{P1},frog,train,{MASK},x"),
    table("an open quote", "is not a CSV table in UTF-8", f'"{P1},frog,train,{MASK}'),
    table("a huge cell", "is not a CSV table in UTF-8 (field larger", f"{WIDE},frog,train,"),
    table("no path", "line 5: the cell image is empty", ",frog,train,"),
    table("absolute path", "line 5: image '/etc/passwd' leads out", "/etc/passwd,frog,train,"),
    table("path upwards", "line 5: image '../x.png' leads out", "../x.png,frog,train,"),
    table("path up and down", "'photos/../../x.png' leads out", "photos/../../x.png,frog,train,"),
    table("path of Windows", "leads out of the dataset", r"C:\x.png,frog,train,"),
    table("mask upwards", "line 5: mask '../m.png' leads out", f"{P1},frog,train,../m.png"),
    table("NUL in a path", r"line 5: image 'a\x00.png' is not a path", "a\0.png,frog,train,"),
    table("NUL in a mask", r"mask 'a\x00.png' is not a path", f"{P1},frog,train,a\0.png"),
    table("line end in a path", r"images.csv, line 6: a\nb.png is missing", '"a\nb.png",frog,train,'),
    table("a terminal's command", r"line 5: \x1b[2Jb.png is missing", "\x1b[2Jb.png,frog,train,"),
    table("the same image twice", "is also in line 2", row(0, "train")),
    table("unknown split", "unknown split 'training'. Use one of", f"{P1},frog,training,"),
    table("a formula as split", "unknown split '=1+1'", f"{P1},frog,=1+1,"),
    table("background as class", "'background' is the name of unlabelled pixels", f"{P1},background,train,"),
    table("a class that is not trained", "The class 'toad' has no training image", f"{P1},toad,val,"),
    table("a name too long", "File name too long", f"{'n' * 300}.png,frog,train,"),
    raw("no training image", "No image is in the split train", f"{HEAD}\n{row(0, 'val')}".encode()),
    raw("no validation image", "No image is in the split val", f"{HEAD}\n{row(0, 'train')}".encode()),
    table("255 classes", "classes; label images hold 254",
          f"{P1},{';'.join(map(str, range(255)))},train,"),
    raw("a name upwards", "'../p' cannot name a file",
        f"{HEAD},name\n{row(0, 'train')},../p\n{row(2, 'val')},q".encode()),
    Bad("absent table", lambda pond: (pond / TABLE).unlink(), "images.csv cannot be read (No such"),
    Bad("a folder as table", lambda pond: folder(pond / TABLE), "cannot be read (Is a directory)"),
]  # fmt: skip

DEEP_JSON = b"[" * 200_000


def edited(name: str, old: str, new: str) -> Callable[[Path], object]:
    """Return what replaces a text in a file of a pond, where it occurs first."""

    def edit(pond: Path) -> None:
        text = (pond / name).read_text()
        assert old in text
        (pond / name).write_text(text.replace(old, new, 1))

    return edit


CHANGED = [  # after the index was made; the file that is named
    Bad("another image", lambda p: shutil.copy(p / "photos/p2.png", p / P1), P1),
    Bad("an image that is gone", lambda p: (p / P1).unlink(), P1),
    Bad("another mask", lambda p: mask(p / MASK, 2, 1, size=SIZE), MASK),
    Bad("a mask that is gone", lambda p: (p / MASK).unlink(), MASK),
    Bad("a row less", edited(TABLE, f"{row(3, 'test')}\n", ""), TABLE),
    Bad("a label less", edited(TABLE, "frog; newt", "frog"), TABLE),
    Bad("an edited index", edited(INDEX.as_posix(), '"p1"', '"p9"'), INDEX.as_posix()),
]
BAD_INDEXES = [
    index_file("empty", NO_JSON, lambda _: b""),
    index_file("half", NO_JSON, lambda content: content[: len(content) // 2]),
    index_file("NUL bytes", NO_JSON, lambda content: bytes(len(content))),
    index_file("not UTF-8", NO_JSON, lambda _: b'{"dataset": "\xff"}'),
    index_file("nested without end", NO_JSON, lambda _: DEEP_JSON),
    index_file("a list", f"{NO_INDEX}the whole: ", lambda _: b"[]"),
    index_file("a number", f"{NO_INDEX}the whole: ", lambda _: b"1"),
    index_file("an empty object", f"{NO_INDEX}dataset: Field required", lambda _: b"{}"),
    index("no images", f"{NO_INDEX}images: Field required", lambda c: c.pop("images")),
    index("another version", f"{NO_INDEX}version: Extra inputs", lambda c: c.update(version=2)),
    index("images a number", f"{NO_INDEX}images: Input should be", lambda c: c.update(images=3)),
    index("an image a word", f"{NO_INDEX}images.0: ", lambda c: c["images"].insert(0, "p")),
    index("an image a list", f"{NO_INDEX}images.0: ", lambda c: c["images"].insert(0, ["p"])),
    index("a further key", f"{NO_INDEX}images.0.x: ", lambda c: c["images"][0].update(x=1)),
    index("a size of words", "images.0.size.0: ", lambda c: c["images"][0].update(size=["a", 1])),
    index("a size too few", "images.0.size.1: ", lambda c: c["images"][0].update(size=[3])),
    index("labels a word", "images.0.labels: ", lambda c: c["images"][0].update(labels="frog")),
    index("a path a number", "images.0.path: ", lambda c: c["images"][0].update(path=3)),
    index("boxes of words", "images.0.boxes", lambda c: c["images"][0].update(boxes=[["a"]])),
    index("a name upwards", "has no name or split", lambda c: c["images"][0].update(name="../p")),
    index("a hidden name", "has no name or split", lambda c: c["images"][0].update(name=".p")),
    index("an unknown split", "has no name or split", lambda c: c["images"][0].update(split="tset")),
    index("an image twice", "or is there twice", lambda c: c["images"].append(c["images"][0])),
    index("another ignored label", "ignore: Input should be 255", lambda c: c.update(ignore=0)),
    index("an unknown class", "has the unknown class 'toad'",
          lambda c: c["images"][0].update(labels=["toad"])),
    index("no checksum", "the file 'path' of the image 'p0' has no checksum",
          lambda c: c["images"][0].update(checksum="")),
    index("a class less", TORN, lambda c: c["classes"].pop()),
    index("an image less", TORN, lambda c: c["images"].pop()),
    index("a class more", TORN,
          lambda c: c["classes"].append({"name": "toad", "label": 3, "colour": "#000000"})),
    index("an image that is gone", "photos/gone.png is missing",
          lambda c: [i.update(path="photos/gone.png") for i in c["images"]]),
    index("another size", "has changed since the index was made",
          lambda c: [i.update(size=[9, 9]) for i in c["images"]]),
    Bad("absent", lambda pond: (pond / INDEX).unlink(), "train.json is missing. Run the stage"),
]  # fmt: skip
