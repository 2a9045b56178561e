"""The index of a dataset: its images with labels, masks, splits and checksums."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from wsss.data.labelmap import IGNORE, colour
from wsss.errors import DatasetError
from wsss.storage.files import read_json, write_json

STRICT = ConfigDict(extra="forbid")  # a file with other keys is of another version
SPLITS = ("train", "aug", "val", "test")
TRAINING = ("train", "aug")  # `aug` images are trained on, but seeds are scored on `train` alone


@dataclass(frozen=True)
class Entry:
    """One image.

    name: unique, without folder or suffix. path, mask: files, or members of an archive
    (`images.zip/name.png`). labels: class names in class order. size: (height, width) in pixels.
    boxes: (left, top, width, height) of the objects in pixels. saliency: file of a grey image in
    which 255 is salient.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: str
    path: str
    mask: str | None
    labels: tuple[str, ...]
    split: str
    size: tuple[int, int]
    checksum: str
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    saliency: str | None = None


@dataclass(frozen=True)
class Index:
    """All images of a dataset and its classes; label 0 is background, class number k is label k + 1."""

    dataset: str
    classes: tuple[str, ...]
    images: tuple[Entry, ...]
    ignore: int = IGNORE

    def split(self, *names: str) -> list[Entry]:
        """Return the images of the named splits, sorted by name."""
        return sorted(
            (image for image in self.images if image.split in names), key=lambda i: i.name
        )

    def training(self) -> list[Entry]:
        """Return the images that networks are trained on."""
        return self.split(*TRAINING)

    def calibration(self, count: int) -> list[Entry]:
        """Return the training images whose masks choose thresholds: `count`, or a quarter if fewer.

        A hash of the name chooses them among the images of the split train that have a mask, so they
        stay the same when others are added or removed.
        """
        entries = [image for image in self.split("train") if image.mask]
        entries.sort(key=lambda image: hashlib.sha256(image.name.encode()).hexdigest())
        return sorted(entries[: min(count, len(entries) // 4)], key=lambda image: image.name)

    def scored(self, split: str, held_out: int = 0) -> list[Entry]:
        """Return the images of a split that have a mask, without `held_out` calibration images."""
        left_out = {image.name for image in self.calibration(held_out)} if held_out else set()
        return [i for i in self.split(split) if i.mask and i.name not in left_out]

    def of_one_class(self, *names: str) -> list[Entry]:
        """Return the images of the named splits that have exactly one class."""
        return [image for image in self.split(*names) if len(image.labels) == 1]

    def numbers(self, labels: Iterable[str]) -> list[int]:
        """Return the class numbers (from 0) of class names, ascending."""
        return sorted(self.classes.index(label) for label in labels)


def save_index(index: Index, path: Path) -> None:
    """Write an index as JSON, images sorted by name."""
    content: dict[str, object] = {
        "dataset": index.dataset,
        "classes": [
            {"name": name, "label": number + 1, "colour": colour(number + 1)}
            for number, name in enumerate(index.classes)
        ],
        "ignore": index.ignore,
        "images": [_plain(image) for image in sorted(index.images, key=lambda image: image.name)],
    }
    write_json(path, content)


def _plain(image: Entry) -> dict[str, object]:
    """Return an image as plain values; empty boxes and saliency are left out."""
    values = asdict(image)
    return {k: v for k, v in values.items() if v or k not in ("boxes", "saliency")}


class _Class(BaseModel):
    """A class in the file of an index."""

    model_config = STRICT

    name: str
    label: int
    colour: str


class _File(BaseModel):
    """The file of an index."""

    model_config = STRICT

    dataset: str
    classes: list[_Class]
    ignore: Literal[255]
    images: list[Entry]


def load_index(path: Path) -> Index:
    """Read an index; raise a `DatasetError` that names its first problem."""
    try:
        content = _File.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(map(str, first["loc"])) or "the whole"
        raise DatasetError(
            f"{path} is not an index ({key}: {first['msg']}). Delete it and run again."
        ) from None
    classes = tuple(entry.name for entry in content.classes)
    index = Index(content.dataset, classes, tuple(content.images), content.ignore)
    _check_images(index, path)
    check_labels(index.images, index.classes, str(path))
    return index


def is_file_name(name: str) -> bool:
    """Return whether `name` can be the name of files and of members of archives."""
    return bool(name) and not name.startswith(".") and not set(name) & set("/\\\0")


def _check_images(index: Index, path: Path) -> None:
    """Raise a `DatasetError` for an image with an unusable name, a repeated name or an unknown split."""
    names: set[str] = set()
    for image in index.images:
        if not is_file_name(image.name) or image.name in names or image.split not in SPLITS:
            raise DatasetError(
                f"{path} is not an index (the image {image.name!r} of {image.split!r} has no name "
                "or split that can be used, or is there twice). Delete it and run again."
            )
        names.add(image.name)


def replaced(entry: Entry) -> str:
    """Return the message for an image whose size differs from its size in the index."""
    return f"The image {entry.path} has changed since the index was made. Run `wsss data prepare`."


def check_labels(images: Iterable[Entry], classes: Sequence[str], where: str) -> None:
    """Raise a `DatasetError` for the first image with a class that is not in `classes`."""
    class_names = set(classes)
    for image in images:
        unknown = [label for label in image.labels if label not in class_names]
        if unknown:
            raise DatasetError(
                f"{where}: image {image.name!r} has the unknown class {unknown[0]!r}. "
                f"The classes are {', '.join(classes)}."
            )
