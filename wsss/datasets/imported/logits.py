"""Scores of all classes and the background that other programs wrote, one file for each image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsss.data.index import Entry, Index
from wsss.data.manifest import Sources
from wsss.data.raw_files import RawFiles
from wsss.datasets.imported.cams import single_precision, stretched
from wsss.datasets.imported.folder import Faults, Folder
from wsss.errors import DatasetError
from wsss.settings.imports import ImportParams
from wsss.storage.plain_npy import load_arrays

Scores = NDArray[np.float32]
SUFFIXES = (".npy", ".npz")
ROUNDING = 1e-2  # by which the sum of probabilities may differ from 1

FORM = "{count} files have another form (the first: {first}). docs/import.md lists the forms"
LEVELS = "{count} files have another number of maps than background and CLASSES classes (the first: {first})"
SHAPE = (
    "{count} images have scores of another shape (the first: {first}). Set SETTING.resize: true to "
    "stretch them"
)
NUMBERS = (
    "{count} files have scores that are not finite numbers (the first: {first}). Save them again"
)


class LogitsFolder:
    """The scores (1 + classes, h, w) in a folder, background first."""

    def __init__(self, path: Path, index: Index, params: ImportParams, setting: str) -> None:
        """List the files. setting: the key of the settings that describes the import."""
        self._folder = Folder(path, SUFFIXES, f"{setting}.logits")
        self._setting, self._params, self.faults = setting, params, Faults()
        order = params.classes or index.classes
        self._classes = len(index.classes)
        self._places = [0, *(order.index(name) + 1 for name in index.classes)]  # ours -> theirs

    @property
    def sources(self) -> Sources:
        """The raw files, for a manifest."""
        return self._folder.sources

    def names(self) -> list[str]:
        """Return the names of the images that have scores."""
        return list(self._folder.files)

    def probabilities(
        self, entries: Iterable[Entry], raw: RawFiles
    ) -> Iterator[tuple[Entry, Scores]]:
        """Yield images with their probabilities (1 + classes, H, W), in the order of the index."""
        for entry in entries:
            content, path = self._folder.read(entry.name, raw)
            try:
                scores = only_array(load_arrays(content, path))
            except (ValueError, TypeError) as error:
                self.faults.add(FORM, f"{entry.name}, {' '.join(str(error).split())[:120]}")
                continue
            fitting = self._fitting(entry, scores)
            if fitting is not None:
                yield entry, probabilities(fitting[self._places])

    def _fitting(self, entry: Entry, scores: Scores) -> Scores | None:
        """Return scores at the size of their image; None if they cannot be used."""
        size = entry.size
        if len(scores) != self._classes + 1:
            self.faults.add(LEVELS, f"{entry.name}, {len(scores)}")
        elif not np.isfinite(scores).all():
            self.faults.add(NUMBERS, entry.name)
        elif scores.shape[1:] == size:
            return scores
        elif self._params.resize and scores.size:
            return stretched(scores, size)
        else:
            shape = " x ".join(map(str, scores.shape[1:]))
            self.faults.add(SHAPE, f"{entry.name}, {shape} for {size[0]} x {size[1]}")
        return None

    def check(self, images: int) -> list[str]:  # noqa: ARG002  # as of CAMs
        """Return remarks: none; stop at scores that cannot be used.

        Raises:
            DatasetError: with a sentence for each kind of fault.
        """
        lines = "; ".join(self.faults.lines())
        if lines:
            lines = lines.replace("CLASSES", str(self._classes)).replace("SETTING", self._setting)
            raise DatasetError(f"{self._folder.path}: {lines}.")
        return []


def only_array(value: Any) -> Scores:
    """Return the one array (K, h, w) in the content of a file: itself, or the only one in a mapping."""
    arrays = list(value.values()) if isinstance(value, dict) else [value]
    if len(arrays) != 1:
        raise ValueError(f"{len(arrays)} arrays instead of one")
    array = np.asarray(arrays[0])
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim != 3 or array.dtype.kind not in "fiu":
        raise ValueError(f"an array {array.shape} of {array.dtype}")
    return single_precision(array)


def probabilities(scores: Scores) -> Scores:
    """Return scores (K, H, W) if they are probabilities already, else their softmax over K."""
    if scores.min() >= 0 and np.abs(scores.sum(0) - 1).max() < ROUNDING:
        return scores
    powers = np.exp(scores - scores.max(0))
    return np.asarray(powers / powers.sum(0), np.float32)
