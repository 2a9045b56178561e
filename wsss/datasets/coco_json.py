"""Read a COCO instances file one image at a time: parsed as a whole, it would take gigabytes of memory.

The annotations of an image are scattered over the file. One pass copies them to a temporary file and
notes where each one begins; then they are read back image by image.
"""

from __future__ import annotations

import json
import re
import tempfile
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypedDict

import ijson
import numpy as np

from wsss.data.index import is_file_name
from wsss.datasets.coco_shapes import Faults, fault, is_whole, shape_fault
from wsss.errors import DatasetError
from wsss.storage.content import refuse_pipe, stand_in_at
from wsss.storage.files import storing

Element = Mapping[str, Any]  # an entry of a list of the file, as parsed

INT64 = "q"  # type code of `array`
UNPACK = "Unpack annotations_trainval2014.zip again."
CORRECT = "Correct the file, or unpack annotations_trainval2014.zip again."
FETCH = (
    "Set data.coco14.root to the folder with train2014, val2014 and annotations "
    "(`wsss data fetch coco14`)."
)


class RunLengths(TypedDict):
    """A mask as run lengths in column order: size [H, W]; counts, plain or compressed to text."""

    size: list[int]
    counts: list[int] | str


class Annotation(TypedDict):
    """One object, or one crowd, of an image.

    segmentation: polygons, each a list [x, y, x, y, ...] in pixels, or run lengths. area: in pixels.
    """

    id: int
    category_id: int
    segmentation: list[list[float]] | RunLengths
    area: float


@dataclass(frozen=True)
class CocoImage:
    """An image of the instances file: its id, its file name without folder, its size (H, W).

    unlabelled: the pixels without a label, in a file that this package exported.
    """

    image_id: int
    file: str
    size: tuple[int, int]
    unlabelled: RunLengths | None = None

    @property
    def name(self) -> str:
        """The file name without its suffix."""
        return PurePosixPath(self.file).stem


class Instances:
    """The categories and images of an instances file, and the annotations of each image."""

    def __init__(self, path: Path, advice: str | None = None) -> None:
        """Read categories and images; `DatasetError` if the file is damaged.

        advice: what to do then, as a sentence, if the file is none of COCO's own.
        """
        self.path, self._advice = path, advice
        self.faults = Faults(path, advice or CORRECT)
        with self._parsing():
            self.categories = dict(map(_category, self._elements("categories")))
            self.images = [_image(image) for image in self._elements("images")]
            if not self.categories:
                raise ValueError("it has no list of categories")
            self._sizes = {image.image_id: image.size for image in self.images}
            if len(self._sizes) < len(self.images):
                raise ValueError("two of its images have the same id")

    def annotations(self) -> Iterator[tuple[CocoImage, list[Annotation]]]:
        """Yield every image with its annotations; images and annotations keep the file's order.

        Annotations with a fault are left out, and stand in `faults` before the first image comes.
        """
        with tempfile.TemporaryFile() as spool:
            starts = self._spool(spool)
            for image in self.images:
                yield image, [_read_line(spool, start) for start in starts.get(image.image_id, ())]

    def _spool(self, spool: IO[bytes]) -> Mapping[int, array[int]]:
        """Copy the annotations to `spool`, one per line; return where they begin, by image id."""
        starts: defaultdict[int, array[int]] = defaultdict(lambda: array(INT64))
        with self._parsing(), storing(Path(tempfile.gettempdir(), "annotations")):
            for number, annotation in enumerate(self._elements("annotations"), 1):
                wrong = fault(annotation, self.categories, self._sizes)
                if wrong:
                    named = is_whole(annotation.get("id"))
                    place = annotation["id"] if named else f"in place {number} of the list"
                    self.faults.add(f"the annotation {place}", *wrong)
                    continue
                starts[annotation["image_id"]].append(spool.tell())
                spool.write(json.dumps(_annotation(annotation)).encode() + b"\n")
        return starts

    def _elements(self, section: str) -> Iterator[Element]:
        """Yield the elements of a list of the file, one in memory at a time."""
        refuse_pipe(self.path)
        with self.path.open("rb") as file:
            for element in ijson.items(ShallowFile(file), f"{section}.item", use_float=True):
                if not isinstance(element, dict):
                    raise ValueError(f"an entry of its {section} is not a mapping")
                yield element

    @contextmanager
    def _parsing(self) -> Iterator[None]:
        """Turn whatever a missing or damaged file raises into one line."""
        try:
            yield
        except OSError as error:
            raise DatasetError(
                f"{self.path} cannot be read ({error.strerror}). {self._advice or FETCH}"
            ) from None
        except (ijson.JSONError, ValueError, KeyError, TypeError) as error:
            if kind := stand_in_at(self.path):
                raise DatasetError(f"{self.path} is {kind}.") from None
            raise DatasetError(
                f"{self.path} is not an instances file of COCO ({_reason(error)}). "
                f"{self._advice or UNPACK}"
            ) from None


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"an entry has no {error}"
    text = error.args[0] if error.args else ""
    text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return " ".join(text.splitlines()[:1])  # the parser's further lines show the place in the text


def _category(category: Element) -> tuple[int, str]:
    number, name = category["id"], category["name"]
    if not is_whole(number) or not isinstance(name, str):
        raise ValueError(f"a category has the id {number!r:.40} and the name {name!r:.40}")
    return number, name


def _image(image: Element) -> CocoImage:
    number, file, size = image["id"], image["file_name"], (image["height"], image["width"])
    if not is_whole(number) or not isinstance(file, str) or not is_file_name(file):
        raise ValueError(f"an image has the id {number!r:.40} and the file_name {file!r:.80}")
    if not all(is_whole(side) and side > 0 for side in size):
        raise ValueError(f"the image {number} has no height and width in whole pixels")
    unlabelled = image.get("unlabelled")
    if unlabelled is not None and (wrong := shape_fault(unlabelled, size)):
        raise ValueError(f"the unlabelled pixels of the image {number}: {wrong}")
    return CocoImage(number, file, size, unlabelled)


def _annotation(annotation: Element) -> Annotation:
    return Annotation(
        id=annotation["id"],
        category_id=annotation["category_id"],
        segmentation=annotation["segmentation"],
        area=annotation["area"],
    )


def _read_line(spool: IO[bytes], start: int) -> Annotation:
    spool.seek(start)
    annotation: Annotation = json.loads(spool.readline())
    return annotation


class ShallowFile:
    """A JSON file that is not nested without end: the parser would remember the way to each depth."""

    STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
    OTHERS = bytes(set(range(256)) - set(b"[]{}"))
    STEPS = np.array([(code in b"[{") - (code in b"]}") for code in range(256)], np.int8)
    MOST_LEVELS = 100

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._depth = 0
        self._open_string = b""  # a string that began in an earlier chunk, shortened

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; `ValueError` if lists and mappings are nested too deep in them."""
        chunk = self._file.read(size)
        text = self.STRING.sub(b"", self._open_string + chunk)
        text, quote, begun = text.partition(b'"')
        escapes = len(begun) - len(begun.rstrip(b"\\"))
        self._open_string = quote + b"\\" * (escapes % 2)
        marks = text.translate(None, self.OTHERS)
        levels = self._depth + self.STEPS[np.frombuffer(marks, np.uint8)].cumsum(dtype=np.int64)
        if levels.max(initial=0) > self.MOST_LEVELS:
            raise ValueError(f"it is nested more than {self.MOST_LEVELS} levels deep")
        self._depth = int(levels[-1]) if levels.size else self._depth
        return chunk
