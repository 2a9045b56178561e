"""Read a COCO instances file an image at a time: it is half a gigabyte, and grows tenfold in memory.

One pass notes where the annotations of each image stand in the file; they are read when asked for.
"""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from wsss.errors import DatasetError

CHUNK = 1 << 22  # characters read at once
LONGEST = 1 << 26  # of one value; more means that the file is no JSON from there on
NUMERIC = "0123456789.eE+-"
DECODER = json.JSONDecoder()

Annotation = dict[str, Any]


@dataclass(frozen=True)
class Picture:
    """An image of the file: its id, its file without folder, its size (H, W)."""

    number: int
    file: str
    size: tuple[int, int]

    @property
    def name(self) -> str:
        """The file without its suffix."""
        return PurePosixPath(self.file).stem


class Instances:
    """The categories and images of an instances file, and the annotations of each image."""

    def __init__(self, path: Path) -> None:
        """Read the file once; `DatasetError` if it is not whole."""
        self.path = path
        self.categories: dict[int, str] = {}
        self.images: list[Picture] = []
        self._spans: defaultdict[int, array[int]] = defaultdict(lambda: array("q"))
        try:
            # Each byte is one character, so places in the text are places in the file.
            with path.open(encoding="latin-1", newline="") as file:
                for section, start, length, value in elements(file):
                    self._note(section, start, length, value)
        except OSError as error:
            raise DatasetError(
                f"{path} cannot be read ({error.strerror}). Set data.coco14.root to the folder with "
                "train2014, val2014 and annotations (`wsss data fetch coco14`)."
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(error) from None

    def _note(self, section: str, start: int, length: int, value: Any) -> None:
        if section == "annotations":
            self._spans[value["image_id"]].extend((start, length))
        elif section == "images":
            size = int(value["height"]), int(value["width"])
            self.images.append(Picture(value["id"], value["file_name"], size))
        elif section == "categories":
            self.categories[value["id"]] = value["name"]

    def annotations(self) -> Iterator[tuple[Picture, list[Annotation]]]:
        """Yield every image with its annotations, both in the order of the file."""
        with self.path.open("rb") as file:
            for picture in self.images:
                spans = self._spans.get(picture.number, array("q"))
                found = []
                for start, length in zip(spans[::2], spans[1::2], strict=True):
                    file.seek(start)
                    found.append(json.loads(file.read(length)))
                yield picture, found

    def _damaged(self, error: Exception) -> DatasetError:
        reason = " ".join(str(error).split())
        return DatasetError(
            f"{self.path} is not an instances file of COCO ({reason}). Unpack "
            "annotations_trainval2014.zip again."
        )


def elements(file: TextIO) -> Iterator[tuple[str, int, int, Any]]:
    """Yield (section, start, length, value) for each element of the lists of a JSON mapping.

    start, length: where it stands, in characters. `ValueError` where the text is no such JSON.
    """
    scan = _Scanner(file)
    scan.take("{")
    while scan.peek() != "}":
        section = str(scan.value()[2])
        scan.take(":")
        if scan.peek() == "[":
            scan.take("[")
            while scan.peek() != "]":
                yield section, *scan.value()
                scan.separator("]")
            scan.take("]")
        else:
            scan.value()
        scan.separator("}")
    scan.take("}")


class _Scanner:
    """A window on a JSON text that is longer than memory."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._text, self._at, self._before = file, "", 0, 0

    def peek(self) -> str:
        """Return the next character that is no white space, or '' at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, expected: str) -> None:
        """Step over a character."""
        if self.peek() != expected:
            raise ValueError(f"no {expected!r} at character {self._before + self._at}")
        self._at += 1

    def separator(self, end: str) -> None:
        """Step over a comma, which must be there unless `end` follows."""
        if self.peek() != end:
            self.take(",")

    def value(self) -> tuple[int, int, Any]:
        """Return where the next value starts, its length and the value."""
        self.peek()
        while True:
            try:
                found, end = DECODER.raw_decode(self._text, self._at)
            except ValueError:
                if len(self._text) - self._at > LONGEST or not self._more():
                    raise ValueError(f"no value at character {self._before + self._at}") from None
                continue
            if not self._text[end : end + 9].strip(NUMERIC) and self._more():
                continue  # a number may go on
            start, length, self._at = self._before + self._at, end - self._at, end
            return start, length, found

    def _more(self) -> bool:
        chunk = self._file.read(CHUNK)
        self._before += self._at
        self._text, self._at = self._text[self._at :] + chunk, 0
        return bool(chunk)
