"""Whether a class shows on its objects or on what always comes with them (co-occurrence).

Drawn datasets keep a mark `context/<name>.png` beside each mask: 1 on the water under a boat, say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsss.data import labelmap
from wsss.data.index import Entry, Index
from wsss.storage.archive import Reader
from wsss.storage.cam_archive import CamReader

MARK = "context"
ALWAYS = 0.98  # share of a class's images with a context, from which on it is a constant one

Read = Callable[[Entry], NDArray[Any]]  # pixels (H, W) of an image


def marked(index: Index, archive: Path | None, mark: str = MARK) -> bool:
    """Return whether the archive of a dataset has a mark beside every mask."""
    if archive is None or not archive.is_file():
        return False
    names = set(Reader(archive).names())
    return all(f"{mark}/{entry.name}.png" in names for entry in index.images)


def reader(archive: Path, mark: str = MARK) -> Read:
    """Return the function from an image to its mark: 1 where a context is, say."""
    marks = Reader(archive)

    def read(entry: Entry) -> NDArray[Any]:
        name = f"{mark}/{entry.name}.png"
        return labelmap.decode(marks.read(name), f"{archive}/{name}")

    return read


def activations(
    entries: Iterable[Entry], index: Index, cams: CamReader, truth: Read, context: Read
) -> list[dict[str, Any]]:
    """Return the mean score of each class that has a constant context, on this and on its objects.

    Images that show two such classes are left out: a mark does not say whose context it is.
    """
    entries = list(entries)
    sums = {name: np.zeros(4) for name in constant(entries, index, context)}
    for entry in entries:  # sums: of the context the score and the pixels, of the objects the same
        present = [name for name in sums if name in entry.labels]
        if len(present) != 1:
            continue
        name, label = present[0], index.classes.index(present[0])
        cam, objects = cams[entry.name], truth(entry) == label + 1
        scores = cam.full()[cam.labels.tolist().index(label)]
        areas = (context(entry) > 0, objects)
        sums[name] += [v for area in areas for v in (scores[area].sum(), area.sum())]
    return [
        {
            "name": name,
            "context": round(float(total[0] / max(total[1], 1)), 6),
            "object": round(float(total[2] / max(total[3], 1)), 6),
        }
        for name, total in sums.items()
    ]


def constant(entries: Iterable[Entry], index: Index, context: Read) -> list[str]:
    """Return the classes that always have a context, in the images of `entries` that show them."""
    seen = np.zeros((2, len(index.classes)))  # images with the class; with a context too
    for entry in entries:
        numbers = index.numbers(entry.labels)
        seen[:, numbers] += [[1], [int(context(entry).any())]]
    return [
        name
        for name, (shown, with_context) in zip(index.classes, seen.T, strict=True)
        if shown and with_context / shown >= ALWAYS
    ]
