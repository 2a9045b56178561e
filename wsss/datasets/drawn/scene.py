"""What the drawn datasets share: which classes, where, and pictures with masks as one archive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsss.data import labelmap
from wsss.data.images import checksum, encode_image
from wsss.data.index import Entry, Index
from wsss.progress import progress
from wsss.storage.archive import Writer

Bits = NDArray[np.bool_]

CLASSES_SHARE = (0.40, 0.40, 0.20)  # pictures with one, two, three classes
FREE = 0.85  # share of an object's box that earlier objects may not cover
SHRINK, TRIES = 0.85, 12  # an object that finds no place becomes smaller, and tries again


@dataclass(frozen=True)
class Box:
    """A rectangle of a picture, in pixels."""

    left: float
    top: float
    wide: float
    high: float

    def overlap(self, other: Box) -> float:
        """Return the area that two boxes share over the smaller of them."""
        wide = min(self.left + self.wide, other.left + other.wide) - max(self.left, other.left)
        high = min(self.top + self.high, other.top + other.high) - max(self.top, other.top)
        smaller = min(self.wide * self.high, other.wide * other.high)
        return max(wide, 0.0) * max(high, 0.0) / smaller


@dataclass(frozen=True)
class Picture:
    """A drawn image (H, W, 3), its labels (H, W), and marks (H, W) such as where a context is."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    marks: Mapping[str, Bits] = field(default_factory=dict)


def choose_classes(generator: np.random.Generator, number: int, classes: int) -> list[int]:
    """Return one to three class numbers: the first goes round with `number`, others are random."""
    first = number % classes
    others = generator.permutation([k for k in range(classes) if k != first])
    return [first, *others[: generator.choice(len(CLASSES_SHARE), p=CLASSES_SHARE)].tolist()]


def find_box(
    generator: np.random.Generator,
    extent: tuple[float, float],
    smallest_px: float,
    taken: Sequence[Box],
    size: tuple[int, int],
) -> Box | None:
    """Find a random place in a picture of `size` (H, W) for an object of `extent` (wide, high).

    While there is none beside `taken`, the object shrinks, but its long side not below
    `smallest_px`.
    """
    wide, high = extent
    for _ in range(TRIES):
        left, top = generator.uniform(0, size[1] - wide), generator.uniform(0, size[0] - high)
        box = Box(float(left), float(top), wide, high)
        if all(box.overlap(other) <= 1 - FREE for other in taken):
            return box
        factor = max(SHRINK, min(1.0, smallest_px / max(wide, high)))
        wide, high = wide * factor, high * factor
    return None


def write(
    dataset: str,
    classes: Sequence[str],
    target: Path,
    counts: Mapping[str, int],
    compose: Callable[[str, int], Picture],
    suffix: str = "png",
) -> Index:
    """Draw `counts[split]` pictures of each split into the archive `target` and return the index.

    compose: draws the picture of a split and a number. Members are `images/<name>.<suffix>`,
    `masks/<name>.png` and, for each mark, `<mark>/<name>.png` with 1 where it is and 0 elsewhere.
    """
    wanted = [(split, number) for split, count in counts.items() for number in range(count)]
    entries = []
    with Writer(target) as writer:
        for split, number in progress(wanted, f"drawing {dataset}", len(wanted)):
            name, picture = f"{split}-{number:05d}", compose(split, number)
            content = encode_image(picture.image, suffix)
            writer.add(f"images/{name}.{suffix}", content)
            writer.add(f"masks/{name}.png", labelmap.encode(picture.mask))
            for mark, where in picture.marks.items():
                writer.add(f"{mark}/{name}.png", labelmap.encode(where))
            labels = tuple(classes[label - 1] for label in np.unique(picture.mask) if label)
            image = f"{target.as_posix()}/images/{name}.{suffix}"
            mask = f"{target.as_posix()}/masks/{name}.png"
            size = (picture.mask.shape[0], picture.mask.shape[1])
            entries.append(Entry(name, image, mask, labels, split, size, checksum(content)))
    return Index(dataset, tuple(classes), tuple(entries))
