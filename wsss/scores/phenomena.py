"""The typical failures of weak supervision as numbers: partial objects, contexts, object sizes.

All three are measured on label images, so every stage and every method is measured alike. Objects
are the connected regions of a class in the true mask. Only drawn datasets mark parts and contexts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsss.data.index import Entry, Index
from wsss.data.labelmap import IGNORE
from wsss.runs.evaluation import ContextShare, PartRecall, PhenomenonScores, SizeScores
from wsss.scores import co_occurrence

PARTS = "parts"  # the mark of the parts that tell a class from others, such as ears
SIZES = ("small", "medium", "large")
# An object is medium from the first share of the picture on, and large from the second: thirds of
# the objects of `shapes` lie below 4.0 %, between, and above 8.1 %.
BOUNDS = (0.04, 0.08)
TOUCHING = np.ones((3, 3), np.bool_)  # pixels that meet at a corner are connected

Sums = NDArray[np.float64]


class Phenomena:
    """Sums over the images of one evaluation, which are added one at a time."""

    def __init__(self, entries: Sequence[Entry], index: Index, archive: Path | None) -> None:
        """Find out which marks the archive of the dataset has; entries: the scored images."""
        self._classes = index.classes
        self._sizes: Sums = np.zeros((len(SIZES), 3))  # objects, sum of recalls, sum of IoUs
        # By class: correct pixels and pixels of the telling part, then of the rest of the object.
        self._parts: dict[str, Sums] = {}
        # By class: pixels with the class and pixels of the context, then of the objects.
        self._contexts: dict[str, Sums] = {}
        self._part = self._context = None
        if archive and co_occurrence.marked(index, archive, PARTS):
            self._part = co_occurrence.reader(archive, PARTS)
        if archive and co_occurrence.marked(index, archive):
            self._context = co_occurrence.reader(archive)
            names = co_occurrence.constant(entries, index, self._context)
            self._contexts = {name: np.zeros(4) for name in names}

    def add(self, entry: Entry, truth: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Count one image: true and predicted labels (H, W); a true 255 leaves a pixel out."""
        predicted = np.where(truth == IGNORE, np.uint8(IGNORE), labels)
        share, recall, iou = object_scores(truth, predicted).T
        place = np.digitize(share, BOUNDS)
        np.add.at(self._sizes, place, np.stack([np.ones_like(share), recall, iou], 1))
        if self._part:
            self._add_parts(truth, predicted, self._part(entry) > 0)
        present = [name for name in self._contexts if name in entry.labels]
        if self._context and len(present) == 1:  # a mark does not name the class
            label = self._classes.index(present[0]) + 1
            areas = (self._context(entry) > 0, truth == label)
            self._contexts[present[0]] += _hits(predicted == label, areas)

    def _add_parts(
        self, truth: NDArray[np.uint8], predicted: NDArray[np.uint8], part: NDArray[np.bool_]
    ) -> None:
        for label in np.unique(truth[(truth > 0) & (truth != IGNORE)]).tolist():
            objects = truth == label
            sums = self._parts.setdefault(self._classes[label - 1], np.zeros(4))
            sums += _hits(predicted == label, (objects & part, objects & ~part))

    def summary(self) -> PhenomenonScores:
        """Return the shares in [0, 1]; a phenomenon without marks is left out.

        sizes: means over objects. parts: the share of the telling part, and of the rest of the
        objects, with the right class. contexts: the share of the context, and of the objects, with
        the class.
        """
        marked = [name for name in self._classes if name in self._parts and self._parts[name][1]]
        parts = [_part_recall(name, self._parts[name]) for name in marked]
        contexts = [_context_share(name, sums) for name, sums in self._contexts.items()]
        lines = {"sizes": self._size_scores(), "parts": parts, "contexts": contexts}
        return PhenomenonScores.model_validate(
            {key: value for key, value in lines.items() if value}
        )

    def _size_scores(self) -> list[SizeScores]:
        return [
            SizeScores(
                name=name, objects=int(count), recall=_share(recall, count), iou=_share(iou, count)
            )
            for name, (count, recall, iou) in zip(SIZES, self._sizes, strict=True)
        ]


def object_scores(truth: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return (objects, 3) of an image: share of the picture, recall, IoU, each in [0, 1].

    truth, labels: true and predicted labels (H, W). A predicted region that touches several objects
    of its class is divided among them, in proportion to the pixels that it covers of each. A region
    that touches none counts for no object.
    """
    scores = [np.zeros((0, 3))]
    for label in np.unique(truth[(truth > 0) & (truth != IGNORE)]).tolist():
        objects, count = ndimage.label(truth == label, TOUCHING)
        regions, region_count = ndimage.label(labels == label, TOUCHING)
        pairs = objects.astype(np.int64) * (region_count + 1) + regions
        size = (count + 1) * (region_count + 1)
        joint = np.bincount(pairs.ravel(), minlength=size).reshape(count + 1, region_count + 1)
        common = joint[1:, 1:]
        weights = joint[:, 1:].sum(0) / np.maximum(common.sum(0), 1)  # a region's area per hit
        area, hit, predicted = joint[1:].sum(1), common.sum(1), common @ weights
        iou = hit / (area + predicted - hit)
        scores.append(np.stack([area / truth.size, hit / area, iou], 1))
    return np.concatenate(scores)


def _hits(predicted: NDArray[np.bool_], areas: Sequence[NDArray[np.bool_]]) -> list[int]:
    """Return for each area how many of its pixels are predicted, and how many it has."""
    return [int(count) for area in areas for count in ((predicted & area).sum(), area.sum())]


def _part_recall(name: str, sums: Sums) -> PartRecall:
    return PartRecall(name=name, part=_share(*sums[:2]), rest=_share(*sums[2:]))


def _context_share(name: str, sums: Sums) -> ContextShare:
    return ContextShare(name=name, context=_share(*sums[:2]), object=_share(*sums[2:]))


def _share(part: float, whole: float) -> float | None:
    return round(float(part / whole), 6) if whole else None
