"""What may be wrong with an annotation of an instances file of COCO."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

Size = tuple[int, int]

FARTHEST = 10  # coordinates may lie outside of an image, but not by so many times its longer side


@dataclass
class Faults:
    """The faults of the annotations of a file, by key: the first of each and how many there are.

    advice: what to do, as a sentence.
    """

    path: Path
    advice: str
    first: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, where: str, key: str, text: str) -> None:
        """Count an annotation whose `key` is wrong, and keep the first of each key. text: what it has there."""
        self.first.setdefault(key, f"{self.path}: {where} has {text}")
        self.counts[key] = self.counts.get(key, 0) + 1

    def lines(self) -> Iterator[str]:
        """Yield one line for each key."""
        for key, text in self.first.items():
            others = self.counts[key] - 1
            more = f" ({others} more have a wrong {key})" if others else ""
            yield f"{text}{more}. {self.advice}"


def fault(
    annotation: Mapping[str, object], categories: Mapping[int, str], sizes: Mapping[int, Size]
) -> tuple[str, str] | None:
    """Return the key that is wrong and what it has; None for a good annotation.

    sizes: (height, width) of the images, by their ids.
    """
    image, category = annotation.get("image_id"), annotation.get("category_id")
    if not is_whole(annotation.get("id")):
        return "id", _text("id", annotation, "whole number")
    if not is_whole(image):
        return "image_id", _text("image_id", annotation, "whole number")
    if image not in sizes:
        return "image_id", f"the image_id {image}, but the file lists no such image"
    if not is_whole(category):
        return "category_id", _text("category_id", annotation, "whole number")
    if category not in categories:
        return "category_id", f"the category_id {category}, but the file lists no such category"
    area = annotation.get("area")
    if not (_is_number(area) and math.isfinite(area) and area >= 0):
        return "area", _text("area", annotation, "number of pixels")
    if "segmentation" not in annotation:
        return "segmentation", "no segmentation"
    reason = shape_fault(annotation["segmentation"], sizes[image])
    if reason:
        return "segmentation", f"a segmentation that is no polygons or run lengths ({reason})"
    return None


def is_whole(value: object) -> TypeGuard[int]:
    """Return whether a value is a whole number, and not true or false."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(key: str, annotation: Mapping[str, object], kind: str) -> str:
    if key not in annotation:
        return f"no {key}"
    return f"the {key} {reprlib.repr(annotation[key])}, which is no {kind}"


def shape_fault(shape: object, size: Size) -> str | None:
    """Return why a segmentation is no polygons or run lengths of an image of `size` (H, W)."""
    if isinstance(shape, list):
        farthest = FARTHEST * max(size)
        reasons = (_polygon_fault(polygon, farthest) for polygon in shape)
        return next((reason for reason in reasons if reason), None)
    if isinstance(shape, dict):
        return _runs_fault(shape, size)
    return f"it is {reprlib.repr(shape)}"


def _polygon_fault(polygon: object, farthest: int) -> str | None:
    if not isinstance(polygon, list):
        return f"{reprlib.repr(polygon)} is no list of x, y, x, y, ..."
    if len(polygon) < 6 or len(polygon) % 2:  # pycocotools would read four numbers as a box
        return f"a polygon of {len(polygon)} numbers"
    if not set(map(type, polygon)) <= {int, float}:
        return f"{reprlib.repr(polygon)} has more than numbers"
    if max(polygon) > farthest or min(polygon) < -farthest:  # each pixel of an edge takes memory
        return (
            f"the coordinates {min(polygon):.6g} to {max(polygon):.6g} are far outside of the image"
        )
    return None


def _runs_fault(shape: Mapping[str, object], size: Size) -> str | None:
    """Return why run lengths are wrong; pycocotools would write beyond the mask."""
    if shape.get("size") != list(size):
        return f"its size is {reprlib.repr(shape.get('size'))}, that of the image {list(size)}"
    counts = shape.get("counts")
    runs = _decoded(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(is_whole(run) and run >= 0 for run in runs):
        return f"its counts are {reprlib.repr(counts)}"
    if sum(runs) != size[0] * size[1]:
        return f"its counts are of {sum(runs)} pixels, the image has {size[0] * size[1]}"
    return None


def _decoded(text: str) -> list[int] | None:
    """Return the run lengths that pycocotools compresses to text, or None if it is none.

    A character holds five bits, the lowest first, and whether more follow; the highest bit of the
    last one is the sign. From the fourth on, a number is added to the one before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            return None
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return None if shift else runs
