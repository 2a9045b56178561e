"""Co-occurrence: how high a class scores on the context that always surrounds its objects.

Drawn datasets have a mark `context/<name>.png` beside each mask: 1 on the water under a boat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsss.data import labelmap
from wsss.data.index import Entry, Index
from wsss.runs.evaluation import ContextActivation
from wsss.storage.archive import Reader
from wsss.storage.cam_archive import CamReader

MARK = "context"
# A context counts as constant if at least this share of the class's images shows it.
ALWAYS = 0.98

Read = Callable[[Entry], NDArray[np.uint8]]  # from an image to its labels or mark (H, W)


def marked(index: Index, archive: Path | None, mark: str = MARK) -> bool:
    """Return whether the archive of a dataset has a mark beside every mask."""
    if archive is None or not archive.is_file():
        return False
    names = set(Reader(archive).names())
    return all(f"{mark}/{entry.name}.png" in names for entry in index.images)


def reader(archive: Path, mark: str = MARK) -> Read:
    """Return the function from an image to its mark (H, W), 1 on the context."""
    marks = Reader(archive)

    def read(entry: Entry) -> NDArray[np.uint8]:
        name = f"{mark}/{entry.name}.png"
        return labelmap.decode(marks.read(name), f"{archive}/{name}")

    return read


def activations(
    entries: Iterable[Entry], index: Index, cams: CamReader, truth: Read, context: Read
) -> tuple[ContextActivation, ...]:
    """Return the mean CAM score of each class with a constant context, on it and on the objects.

    Images that show two such classes are left out: a mark does not name the class of a context.
    """
    entries = list(entries)
    # By class: sum of scores and number of pixels of the context, then of the objects.
    sums = {name: np.zeros(4) for name in constant(entries, index, context)}
    for entry in entries:
        present = [name for name in sums if name in entry.labels]
        if len(present) != 1:
            continue
        name, label = present[0], index.classes.index(present[0])
        cam, objects = cams[entry.name], truth(entry) == label + 1
        scores = cam.full()[cam.labels.tolist().index(label)]
        areas = (context(entry) > 0, objects)
        sums[name] += [v for area in areas for v in (scores[area].sum(), area.sum())]
    return tuple(
        ContextActivation(
            name=name,
            context=round(float(total[0] / max(total[1], 1)), 6),
            object=round(float(total[2] / max(total[3], 1)), 6),
        )
        for name, total in sums.items()
    )


def constant(entries: Iterable[Entry], index: Index, context: Read) -> list[str]:
    """Return the classes with a context in (nearly) all images of `entries` that show them."""
    counts = np.zeros((2, len(index.classes)))  # images with the class; with a context too
    for entry in entries:
        numbers = index.numbers(entry.labels)
        counts[:, numbers] += [[1], [int(context(entry).any())]]
    return [
        name
        for name, (shown, with_context) in zip(index.classes, counts.T, strict=True)
        if shown and with_context / shown >= ALWAYS
    ]
