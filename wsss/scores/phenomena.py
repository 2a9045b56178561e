"""What weak supervision gets wrong, as numbers: partial objects, contexts, sizes of objects.

All three are of labels, so every stage and every method is measured alike. Objects are the connected
regions of a class in the true mask. Parts and contexts are known of drawn datasets alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsss.data.index import Entry, Index
from wsss.data.labelmap import IGNORE
from wsss.scores import co_occurrence

PARTS = "parts"  # the mark of what tells a class from others, such as ears
SIZES = ("small", "medium", "large")
# Shares of the picture from which on an object is medium, and large: the thirds of the objects of
# `shapes` are at 4.0 % and 8.1 %, so that each kind has as many there.
BOUNDS = (0.04, 0.08)
TOUCHING = np.ones((3, 3), np.bool_)  # pixels that meet at a corner are connected

Sums = NDArray[np.float64]


class Phenomena:
    """Sums over the images of one evaluation; an image at a time, none is kept."""

    def __init__(self, entries: Sequence[Entry], index: Index, archive: Path | None) -> None:
        """Look up which marks the archive of the dataset has for the images that are scored."""
        self._classes = index.classes
        self._sizes: Sums = np.zeros((len(SIZES), 3))  # objects, sum of recalls, sum of IoUs
        self._parts: dict[str, Sums] = {}  # part: found, pixels; rest of the object: same
        self._contexts: dict[str, Sums] = {}  # context: labelled, pixels; objects: same
        self._part = self._context = None
        if archive and co_occurrence.marked(index, archive, PARTS):
            self._part = co_occurrence.reader(archive, PARTS)
        if archive and co_occurrence.marked(index, archive):
            self._context = co_occurrence.reader(archive)
            found = co_occurrence.constant(entries, index, self._context)
            self._contexts = {name: np.zeros(4) for name in found}

    def add(self, entry: Entry, truth: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Count one image: its true and its predicted labels (H, W); where truth is 255, nothing."""
        given = np.where(truth == IGNORE, np.uint8(IGNORE), labels)
        share, recall, iou = object_scores(truth, given).T
        place = np.digitize(share, BOUNDS)
        np.add.at(self._sizes, place, np.stack([np.ones_like(share), recall, iou], 1))
        if self._part:
            self._add_parts(truth, given, self._part(entry) > 0)
        present = [name for name in self._contexts if name in entry.labels]
        if self._context and len(present) == 1:  # a mark does not say whose context it is
            label = self._classes.index(present[0]) + 1
            areas = (self._context(entry) > 0, truth == label)
            self._contexts[present[0]] += _hits(given == label, areas)

    def _add_parts(
        self, truth: NDArray[np.uint8], given: NDArray[np.uint8], part: NDArray[np.bool_]
    ) -> None:
        for label in np.unique(truth[(truth > 0) & (truth != IGNORE)]).tolist():
            own = truth == label
            sums = self._parts.setdefault(self._classes[label - 1], np.zeros(4))
            sums += _hits(given == label, (own & part, own & ~part))

    def summary(self) -> dict[str, list[dict[str, Any]]]:
        """Return the shares in [0, 1], ready for JSON; phenomena that cannot be seen are left out.

        sizes: means over objects. parts: how much of the telling part and of the rest of the objects
        has the right class. contexts: how much of the context and of the objects has the class.
        """
        told = {name: sums for name, sums in self._parts.items() if sums[1]}
        found = {
            "sizes": [
                {"name": name, "objects": int(count), "recall": _share(recall, count)}
                | {"iou": _share(iou, count)}
                for name, (count, recall, iou) in zip(SIZES, self._sizes, strict=True)
            ],
            "parts": _shares({n: told[n] for n in self._classes if n in told}, "part", "rest"),
            "contexts": _shares(self._contexts, "context", "object"),
        }
        return {key: value for key, value in found.items() if value}


def object_scores(truth: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return (objects, 3) of an image: share of the picture, recall, IoU.

    A predicted region that touches several objects of its class is shared among them, in proportion
    to what it covers of each. One that touches none counts for no object.
    """
    found = [np.zeros((0, 3))]
    for label in np.unique(truth[(truth > 0) & (truth != IGNORE)]).tolist():
        objects, count = ndimage.label(truth == label, TOUCHING)
        regions, others = ndimage.label(labels == label, TOUCHING)
        pairs = objects.astype(np.int64) * (others + 1) + regions
        size = (count + 1) * (others + 1)
        joint = np.bincount(pairs.ravel(), minlength=size).reshape(count + 1, others + 1)
        both = joint[1:, 1:]
        weights = joint[:, 1:].sum(0) / np.maximum(both.sum(0), 1)  # a region's area per hit
        area, hit, given = joint[1:].sum(1), both.sum(1), both @ weights
        found.append(np.stack([area / truth.size, hit / area, hit / (area + given - hit)], 1))
    return np.concatenate(found)


def _hits(given: NDArray[np.bool_], areas: Sequence[NDArray[np.bool_]]) -> list[int]:
    """Return for each area how many of its pixels are given, and how many it has."""
    return [int(count) for area in areas for count in ((given & area).sum(), area.sum())]


def _shares(sums: dict[str, Sums], first: str, second: str) -> list[dict[str, Any]]:
    return [
        {"name": name, first: _share(*total[:2]), second: _share(*total[2:])}
        for name, total in sums.items()
    ]


def _share(part: float, whole: float) -> float | None:
    return round(float(part / whole), 6) if whole else None
