"""Parts shared by the drawn datasets: choose classes and places, write pictures and masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsss.data import labelmap
from wsss.data.images import encode_image
from wsss.data.index import Entry, Index
from wsss.progress import progress
from wsss.storage.archive import Writer
from wsss.storage.files import checksum

Bits = NDArray[np.bool_]

CLASSES_SHARE = (0.40, 0.40, 0.20)  # shares of pictures with one, two and three classes
FREE = 0.85  # share of an object's box that earlier objects may not cover
SHRINK, TRIES = 0.85, 12  # an object without a free place shrinks by this factor and is tried again


@dataclass(frozen=True)
class Box:
    """A rectangle of a picture, in pixels."""

    left: float
    top: float
    wide: float
    high: float

    def overlap(self, other: Box) -> float:
        """Return the area that two boxes share, divided by the area of the smaller one."""
        wide = min(self.left + self.wide, other.left + other.wide) - max(self.left, other.left)
        high = min(self.top + self.high, other.top + other.high) - max(self.top, other.top)
        smaller = min(self.wide * self.high, other.wide * other.high)
        return max(wide, 0.0) * max(high, 0.0) / smaller


@dataclass(frozen=True)
class Picture:
    """A drawn image (H, W, 3), its label mask (H, W), and further masks (H, W), such as the context."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    marks: Mapping[str, Bits] = field(default_factory=dict)


def choose_classes(generator: np.random.Generator, number: int, classes: int) -> list[int]:
    """Return one to three class numbers: the first cycles with `number`, the others are random."""
    first = number % classes
    others = generator.permutation([k for k in range(classes) if k != first])
    return [first, *others[: generator.choice(len(CLASSES_SHARE), p=CLASSES_SHARE)].tolist()]


def find_box(
    generator: np.random.Generator,
    extent: tuple[float, float],
    smallest_px: float,
    occupied: Sequence[Box],
    size: tuple[int, int],
) -> Box | None:
    """Return a random box in a picture of `size` (H, W) for an object of `extent` (wide, high).

    If the box overlaps the boxes `occupied` too much, the object shrinks until its long side is
    `smallest_px`. Returns None if no place is free after all tries.
    """
    wide, high = extent
    for _ in range(TRIES):
        left, top = generator.uniform(0, size[1] - wide), generator.uniform(0, size[0] - high)
        box = Box(float(left), float(top), wide, high)
        if all(box.overlap(other) <= 1 - FREE for other in occupied):
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
    `masks/<name>.png` and, for each mark, `<mark>/<name>.png` with the values 0 and 1.
    """
    pictures = [(split, number) for split, count in counts.items() for number in range(count)]
    entries = []
    with Writer(target) as writer:
        for split, number in progress(pictures, f"drawing {dataset}", len(pictures)):
            name, picture = f"{split}-{number:05d}", compose(split, number)
            content, truth = encode_image(picture.image, suffix), labelmap.encode(picture.mask)
            writer.add(f"images/{name}.{suffix}", content)
            writer.add(f"masks/{name}.png", truth)
            for mark, where in picture.marks.items():
                writer.add(f"{mark}/{name}.png", labelmap.encode(where))
            labels = tuple(classes[label - 1] for label in np.unique(picture.mask) if label)
            image = f"{target.as_posix()}/images/{name}.{suffix}"
            mask = f"{target.as_posix()}/masks/{name}.png"
            size = (picture.mask.shape[0], picture.mask.shape[1])
            entry = Entry(name, image, mask, labels, split, size, checksum(content))
            entries.append(replace(entry, mask_checksum=checksum(truth)))
    return Index(dataset, tuple(classes), tuple(entries))
