"""Whether a class shows on its objects or on what always comes with them (co-occurrence).

Drawn datasets keep a mark `context/<name>.png` beside each mask: 1 on the water under a boat, say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsss.archive import Reader
from wsss.camstore import CamReader
from wsss.data import labelmap
from wsss.data.index import Entry, Index

MARK = "context"
ALWAYS = 0.98  # share of a class's images with a context, from which on it is a constant one

Read = Callable[[Entry], NDArray[Any]]  # pixels (H, W) of an image


def marked(index: Index, archive: Path | None) -> bool:
    """Return whether the archive of a dataset has marks of contexts."""
    if archive is None or not archive.is_file():
        return False
    names = set(Reader(archive).names())
    return all(f"{MARK}/{entry.name}.png" in names for entry in index.split("train"))


def reader(archive: Path) -> Read:
    """Return the function from an image to its mark: 1 where a context is."""
    marks = Reader(archive)

    def read(entry: Entry) -> NDArray[Any]:
        name = f"{MARK}/{entry.name}.png"
        return labelmap.decode(marks.read(name), f"{archive}/{name}")

    return read


def activations(
    entries: Iterable[Entry], index: Index, cams: CamReader, truth: Read, context: Read
) -> list[dict[str, Any]]:
    """Return the mean score of each class that has a constant context, on this and on its objects.

    Images that show two such classes are left out: a mark does not say whose context it is.
    """
    found = [(entry, context(entry) > 0) for entry in entries]
    constant = [name for name in index.classes if _is_constant(name, found)]
    sums = {name: np.zeros(4) for name in constant}  # context: score, pixels; objects: same
    for entry, where in found:
        present = [name for name in constant if name in entry.labels]
        if len(present) != 1:
            continue
        name, label = present[0], index.classes.index(present[0])
        cam, objects = cams[entry.name], truth(entry) == label + 1
        scores = cam.full()[cam.labels.tolist().index(label)]
        areas = (where, objects)
        sums[name] += [v for area in areas for v in (scores[area].sum(), area.sum())]
    return [
        {
            "name": name,
            "context": round(float(total[0] / max(total[1], 1)), 6),
            "object": round(float(total[2] / max(total[3], 1)), 6),
        }
        for name, total in sums.items()
    ]


def _is_constant(name: str, found: Iterable[tuple[Entry, NDArray[np.bool_]]]) -> bool:
    seen = [where.any() for entry, where in found if name in entry.labels]
    return bool(seen) and float(np.mean(seen)) >= ALWAYS
