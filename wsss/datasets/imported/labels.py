"""Label images that other programs wrote: folders of indexed or grey PNGs, or a file in COCO's format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsss.data import labelmap
from wsss.data.index import Entry, Index
from wsss.data.manifest import Sources
from wsss.data.numbering import (
    Flags,
    masks_of,
    numbered_otherwise,
    numbering,
    object_masks,
    value_of_all,
)
from wsss.data.raw_files import RawFiles
from wsss.datasets.coco import covered, inside
from wsss.datasets.coco_json import Annotation, CocoImage, Instances
from wsss.datasets.imported.folder import Faults, Folder
from wsss.errors import DatasetError
from wsss.settings.imports import ImportParams

Labels = NDArray[np.uint8]
SUFFIXES = (".png",)
JSON = ".json"
UNREADABLE = "{count} files cannot be read (the first: {first})"
SIZE = "{count} images have labels of another size (the first: {first})"
VALUE = (
    "{count} images have values that are no class (the first: {first}). Labels are 0 to CLASSES, and 255 "
    "to ignore"
)


class LabelReader:
    """What folders and files have in common: an order of classes, and checks of every label image."""

    def __init__(self, path: Path, index: Index, params: ImportParams, setting: str) -> None:
        """Take the numbers of the classes. setting: the key of the settings that describes the import."""
        self.path, self.setting, self.faults = path, setting, Faults()
        self._index = index
        self._order = params.classes or index.classes
        self._masked: list[tuple[Entry, Flags]] = []
        table = np.full(256, labelmap.IGNORE, np.uint8)
        table[0] = labelmap.BACKGROUND
        for number, name in enumerate(self._order, 1):
            table[number] = index.classes.index(name) + 1
        self._table = table

    def checked(self, entry: Entry, labels: Labels) -> Labels:
        """Return the labels (H, W) of an image, numbered as in the index; faults are counted."""
        present = np.bincount(labels.ravel(), minlength=256) > 0
        if labels.shape != entry.size:
            shape = " x ".join(map(str, labels.shape))
            self.faults.add(SIZE, f"{entry.name}, {shape} for {entry.size[0]} x {entry.size[1]}")
            return empty(entry)
        odd = np.flatnonzero(present[len(self._order) + 1 : labelmap.IGNORE])
        if len(odd):
            self.faults.add(VALUE, f"{entry.name}, {odd[0] + len(self._order) + 1}")
        renumbered: Labels = self._table[labels]
        self._masked.append((entry, np.bincount(renumbered.ravel(), minlength=256) > 0))
        return renumbered

    def check(self, images: int) -> list[str]:  # noqa: ARG002  # as of CAMs
        """Return remarks: none; stop at labels that cannot be used.

        Raises:
            DatasetError: with a sentence for each kind of fault.
        """
        lines = [line.replace("CLASSES", str(len(self._order))) for line in self.faults.lines()]
        if not self.faults.count(SIZE):
            lines += self._misnumbered()
        if lines:
            raise DatasetError(f"{self.path}: {'; '.join(lines)}.")
        return []

    def _misnumbered(self) -> Iterator[str]:
        """Yield a sentence if the labels clearly number the classes in another order."""
        labelled = [(entry, flags) for entry, flags in self._masked if entry.labels]
        masks = masks_of(self._index, labelled, self.setting)
        if not labelled:
            return
        if value := value_of_all(masks):
            yield object_masks(masks, value).rstrip(".")
        elif (numbers := numbering(masks)) is not None:
            yield numbered_otherwise(masks, numbers).rstrip(".")


class LabelFolder(LabelReader):
    """The label images in a folder, one for each image."""

    def __init__(
        self, path: Path, index: Index, params: ImportParams, key: str, setting: str
    ) -> None:
        """List the files. key: the setting below `setting` that names the folder."""
        super().__init__(path, index, params, setting)
        self._folder = Folder(path, SUFFIXES, f"{setting}.{key}")

    @property
    def sources(self) -> Sources:
        """The raw files, for a manifest."""
        return self._folder.sources

    def names(self) -> list[str]:
        """Return the names of the images that have labels."""
        return list(self._folder.files)

    def labels(self, entries: Iterable[Entry], raw: RawFiles) -> Iterator[tuple[Entry, Labels]]:
        """Yield images with their labels (H, W)."""
        for entry in entries:
            content, path = self._folder.read(entry.name, raw)
            try:
                labels = labelmap.decode(content, path)
            except DatasetError as error:
                self.faults.add(UNREADABLE, str(error).rstrip("."))
                labels = empty(entry)
            yield entry, self.checked(entry, labels)


class CocoFile(LabelReader):
    """The label images in a file of COCO's format; where objects overlap, the last one counts.

    Pixels without an object are background, those in an image's `unlabelled` have no label.
    """

    def __init__(
        self, path: Path, index: Index, params: ImportParams, key: str, setting: str
    ) -> None:
        """Read the list of images. key: the setting below `setting` that names the file."""
        super().__init__(path, index, params, setting)
        self._instances = Instances(path, f"Correct {setting}.{key}.")
        self._numbers = self._numbered(self._instances.categories)

    @property
    def sources(self) -> Sources:
        """The raw file, for a manifest."""
        return Sources(self.path.as_posix(), (self.path.as_posix(),))

    def names(self) -> list[str]:
        """Return the names of the images of the file."""
        return [image.name for image in self._instances.images]

    def labels(self, entries: Iterable[Entry], raw: RawFiles) -> Iterator[tuple[Entry, Labels]]:
        """Yield images with their labels (H, W)."""
        raw.note([self.path])
        by_name = {entry.name: entry for entry in entries}
        for image, objects in self._instances.annotations():
            if image.name in by_name:
                entry = by_name[image.name]
                yield entry, self.checked(entry, self._painted(image, objects))

    def check(self, images: int) -> list[str]:
        """Return remarks: none; stop at annotations and labels that cannot be used."""
        for line in self._instances.faults.lines():
            raise DatasetError(line)
        return super().check(images)

    def _numbered(self, categories: dict[int, str]) -> dict[int, int]:
        """Return the label of each category: by its name, or else by its number from 1."""
        places = {name: number for number, name in enumerate(self._order, 1)}
        if set(categories.values()) <= set(places):
            return {number: places[name] for number, name in categories.items()}
        odd = sorted(set(categories.values()) - set(places))
        if sorted(categories) != list(range(1, len(self._order) + 1)):
            raise DatasetError(
                f"{self.path} has a category {odd[0]!r}, which is no class, and numbers them otherwise "
                f"than 1 to {len(self._order)}. Name its categories as in the dataset."
            )
        return {number: number for number in categories}

    def _painted(self, image: CocoImage, objects: Sequence[Annotation]) -> Labels:
        labels = np.zeros(image.size, np.uint8)
        for annotation in objects:
            labels[inside(annotation, image.size)] = self._numbers[annotation["category_id"]]
        if image.unlabelled is not None:
            labels[covered(image.unlabelled, image.size)] = labelmap.IGNORE
        return labels


def label_reader(
    path: Path, index: Index, params: ImportParams, key: str, setting: str
) -> LabelFolder | CocoFile:
    """Return the reader of a folder of PNGs, or of a JSON file. key: pseudo or masks."""
    kind = CocoFile if path.suffix.lower() == JSON else LabelFolder
    return kind(path, index, params, key, setting)


def empty(entry: Entry) -> Labels:
    """Return the labels (H, W) of an image without any: 255 everywhere."""
    return np.full(entry.size, labelmap.IGNORE, np.uint8)
