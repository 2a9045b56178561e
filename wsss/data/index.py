"""The index of a dataset: its images with labels, masks, splits and checksums.

The whole index is `index.json`; its parts, which the stages read, are in the folder `index/` beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from wsss.data.index_parts import PARTS, TESTED, TRAINING, TRUTH, part_path
from wsss.data.labelmap import IGNORE, colour
from wsss.errors import DatasetError
from wsss.storage.files import read_json, update_json

STRICT = ConfigDict(extra="forbid")  # a file with other keys is of another version
SPLITS = (*TRAINING, *TESTED)
OPTIONAL = ("mask_checksum", "boxes", "saliency", "saliency_checksum")  # left out where empty


@dataclass(frozen=True)
class Entry:
    """One image.

    name: unique, without folder or suffix. path, mask: files, or members of an archive
    (`images.zip/name.png`). labels: class names in class order. size: (height, width) in pixels.
    checksum: of the image's bytes; empty for an image that is in no index. boxes: (left, top, width,
    height) of the objects in pixels. saliency: file of a grey image in which 255 is salient.
    mask_checksum, saliency_checksum: of these files' bytes.
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
    mask_checksum: str = ""
    saliency_checksum: str = ""


@dataclass(frozen=True)
class Truth:
    """What scores alone need of an image: its mask and, of a validation image, labels and boxes."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: str
    mask: str | None
    mask_checksum: str = ""
    labels: tuple[str, ...] | None = None
    boxes: tuple[tuple[float, float, float, float], ...] = ()

    def added_to(self, image: Entry) -> Entry:
        """Return the image with its truth."""
        labels = image.labels if self.labels is None else self.labels
        return replace(
            image,
            mask=self.mask,
            mask_checksum=self.mask_checksum,
            labels=labels,
            boxes=self.boxes or image.boxes,
        )


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


def save_index(index: Index, path: Path) -> list[str]:
    """Write an index and its parts as JSON, images sorted by name; return the parts that changed.

    A file that would not change is left alone, with its time.
    """
    images = [asdict(image) for image in sorted(index.images, key=lambda image: image.name)]
    head: dict[str, object] = {
        "dataset": index.dataset,
        "classes": [
            {"name": name, "label": number + 1, "colour": colour(number + 1)}
            for number, name in enumerate(index.classes)
        ],
        "ignore": index.ignore,
    }
    changed = []
    for part, (splits, fields) in PARTS.items():
        chosen = [_without_empty(image, fields) for image in images if image["split"] in splits]
        if update_json(part_path(path, part), {**head, "images": chosen}):
            changed.append(part)
    everything = [_without_empty(image, image) for image in images]
    update_json(path, {**head, "images": everything})
    return changed


def _without_empty(image: dict[str, object], fields: Iterable[str]) -> dict[str, object]:
    """Return some fields of an image; optional fields are left out where they are empty."""
    return {key: image[key] for key in fields if image[key] or key not in OPTIONAL}


class _Class(BaseModel):
    """A class in the file of an index."""

    model_config = STRICT

    name: str
    label: int
    colour: str


class _Head(BaseModel):
    """What the file of an index and the files of its parts have in common."""

    model_config = STRICT

    dataset: str
    classes: list[_Class]
    ignore: Literal[255]


class _File(_Head):
    """The file of an index."""

    images: list[Entry]


class _Images(_File):
    """The file of a part with images; their truth is in another part."""

    @field_validator("images", mode="before")
    @classmethod
    def _without_truth(cls, images: object) -> object:
        if not isinstance(images, list):
            return images
        truth: dict[str, object] = {"mask": None, "labels": []}
        return [{**truth, **image} if isinstance(image, dict) else image for image in images]


class _Truths(_Head):
    """The file of a part with the truth of images."""

    images: list[Truth]


Content = TypeVar("Content", bound=_Head)


def load_index(path: Path, *parts: str) -> Index:
    """Read an index, or only some of its parts; raise a `DatasetError` that names its first problem.

    parts: keys of PARTS; a part with truth needs the part with its images. What other parts hold is
    absent: their images, and the fields of images.
    """
    files = [part_path(path, part) for part in parts if part not in TRUTH] or [path]
    contents = [_parsed(_Images if parts else _File, file) for file in files]
    images = [image for content in contents for image in content.images]
    _check_images(images, files[0])
    heads: dict[Path, _Head] = dict(zip(files, contents, strict=True))
    for part in (part for part in parts if part in TRUTH):
        file = part_path(path, part)
        truths = _parsed(_Truths, file)
        images = _with_truth(images, truths.images, PARTS[part][0], file)
        heads[file] = truths
    first = contents[0]
    for file, head in heads.items():
        if (head.dataset, head.classes) != (first.dataset, first.classes):
            raise _torn(file)
    classes = tuple(entry.name for entry in first.classes)
    index = Index(first.dataset, classes, tuple(images), first.ignore)
    _check_images(index.images, files[0])
    check_labels(index.images, index.classes, str(files[0]))
    return index


def _parsed(model: type[Content], path: Path) -> Content:
    try:
        return model.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(map(str, first["loc"])) or "the whole"
        raise DatasetError(
            f"{path} is not an index ({key}: {first['msg']}). Delete it and run again."
        ) from None


def _with_truth(
    images: list[Entry], truths: list[Truth], splits: tuple[str, ...], path: Path
) -> list[Entry]:
    """Return images; those of `splits` have the truth that the file `path` gives for each of them."""
    by_name = {truth.name: truth for truth in truths}
    if {image.name for image in images if image.split in splits} != set(by_name):
        raise _torn(path)
    return [
        by_name[image.name].added_to(image) if image.split in splits else image for image in images
    ]


def _torn(path: Path) -> DatasetError:
    return DatasetError(
        f"{path} is of another index than the files beside it. Delete {path.parent} and run again."
    )


def is_file_name(name: str) -> bool:
    """Return whether `name` can be the name of files and of members of archives."""
    return bool(name) and not name.startswith(".") and not set(name) & set("/\\\0")


def _check_images(images: Iterable[Entry], path: Path) -> None:
    """Raise a `DatasetError` for an image that has no usable name, split or checksum, or is there twice."""
    names: set[str] = set()
    for image in images:
        if not is_file_name(image.name) or image.name in names or image.split not in SPLITS:
            raise DatasetError(
                f"{path} is not an index (the image {image.name!r} of {image.split!r} has no name "
                "or split that can be used, or is there twice). Delete it and run again."
            )
        names.add(image.name)
        files = {"path": image.checksum}
        files |= {"mask": image.mask_checksum} if image.mask else {}
        files |= {"saliency": image.saliency_checksum} if image.saliency else {}
        without = [key for key, checksum in files.items() if not checksum]
        if without:
            raise DatasetError(
                f"{path} is not an index (the file {without[0]!r} of the image {image.name!r} has no "
                "checksum). Delete it and run again."
            )


def replaced(entry: Entry) -> str:
    """Return the message for an image that differs from the indexed one."""
    return replaced_file("image", entry.path)


def replaced_file(kind: str, path: str) -> str:
    """Return the message for a file that differs from the indexed one. kind: image, mask or the like."""
    return (
        f"The {kind} {path} has changed since the index was made. Run `wsss data prepare` for its "
        "dataset, then `snakemake`: what was made from the earlier file is made again."
    )


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
