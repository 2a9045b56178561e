"""What the first bytes of a file say it is, if it is something else than its name promises."""

from __future__ import annotations

import codecs
import re
import stat
from pathlib import Path

from wsss.errors import DatasetError

KEYED = re.compile(r"(.+\.\w+):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")  # FILE:key
START = 512  # bytes that suffice to tell
PAGE = (b"<!doctype", b"<html", b"<?xml", b"<!--")
POINTER = b"version https://git-lfs.github.com/spec/"


def file_and_key(source: str) -> tuple[str, str]:
    """Return the file and the key of `FILE:key`; the key is empty if only a file is named."""
    keyed = KEYED.fullmatch(source)
    return (keyed[1], keyed[2]) if keyed else (source, "")


def refuse_pipe(path: Path) -> None:
    """Stop if a path is a pipe or a device: opening a pipe would wait for a writer forever.

    Raises:
        DatasetError: it is one.
        OSError: there is nothing at this path.
    """
    if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
        raise DatasetError(
            f"{path} cannot be read (it is a pipe or a device). Make it a readable file."
        )


def start_of(path: Path) -> bytes:
    """Return the first bytes of a file; `DatasetError` if it is a pipe."""
    refuse_pipe(path)
    with path.open("rb") as content:
        return content.read(START)


def stand_in(start: bytes, xml: bool = False) -> str:
    """Return what a file is that stands in for another, and the way to that one; empty if it is none.

    start: the first bytes of the file. xml: whether XML is what the file ought to be.
    """
    text = start.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if text.startswith(PAGE) and not (xml and text.startswith((b"<?xml", b"<!--"))):
        return "a web page: the link has expired or needs a login. Download the file again"
    if start.startswith(POINTER):
        size = re.search(rb"\nsize (\d+)", start)
        bytes_ = f" of {int(size[1]):,} bytes" if size else ""
        return (
            f"a pointer of Git LFS, in place of a file{bytes_}. Run `git lfs pull` in its folder, or "
            "download the file itself"
        )
    return ""


def stand_in_at(path: Path, xml: bool = False) -> str:
    """Return what the file at `path` is, as `stand_in`; empty if it cannot be read."""
    try:
        return stand_in(start_of(path), xml)
    except OSError:
        return ""
