"""Boxes from class maps, boxes of the objects in a mask, and how well the two agree.

A box is (left, top, right, bottom) in pixels. Boxes from maps use exclusive right and bottom edges,
ground truth inclusive ones; like the published code, IoU treats both as inclusive.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsss.data.images import load_entry_mask
from wsss.data.index import Entry, Index
from wsss.errors import DatasetError

Box = tuple[int, int, int, int]
NOTHING: Box = (0, 0, 1, 1)  # the box of a constant map
EIGHT = np.ones((3, 3), np.bool_)  # diagonal neighbours touch
# Share of the largest region's pixels; a smaller region is a piece of an object behind another one.
FRAGMENT = 0.1

OUTCOMES = ("right", "class", "multi_instance", "part", "more", "wrong")


@dataclass(frozen=True)
class Answer:
    """Which localization criteria an image meets, and the outcome of its best class.

    top1_class, top5_class: the true class is the best, or among the best five. top1, top5: the box
    of the true class is right too. gt_known: that box is right, whatever its rank.
    """

    top1_class: bool
    top5_class: bool
    top1: bool
    top5: bool
    gt_known: bool
    outcome: str


def from_map(scores: NDArray[np.float32], threshold: float) -> Box:
    """Return the box of the high scores of a map (H, W); `NOTHING` for a constant map.

    threshold: share of the range of the scores, in [0, 1].
    """
    low, high = scores.min(), scores.max()
    if not high > low:
        return NOTHING
    return above((scores - low) / (high - low), threshold)


def above(scores: NDArray[np.float32], threshold: float) -> Box:
    """Return the box of the outline with the largest area around high scores (H, W) in [0, 1].

    A score is high above `threshold` times the largest score, both in 255 steps.
    """
    levels = (255 * scores).astype(np.uint8)
    mask = levels > int(threshold * levels.max())
    largest = max(outlines(mask), default=None, key=lambda outline: outline[:2])
    return NOTHING if largest is None else largest[2]


def outlines(mask: NDArray[np.bool_]) -> Iterator[tuple[float, tuple[int, int], Box]]:
    """Yield area, first pixel (row, column) and box of the outline of every region and hole.

    mask: (H, W). An outline goes through the centres of the region's pixels, as OpenCV's contours
    do, so that a line one pixel wide has area 0. The area is counted without following the outline:
    the square between four neighbouring centres is inside, half inside or outside. Pixels of a
    region may touch at corners, pixels of a hole must share sides.
    """
    regions, _ = ndimage.label(mask, EIGHT)
    for number, place in enumerate(ndimage.find_objects(regions), 1):
        region = regions[place] == number
        corners = _corners(ndimage.binary_fill_holes(region))
        area = float((corners == 4).sum() + (corners == 3).sum() / 2)
        yield area, _first_pixel(region, place), _box(place)
    holes, _ = ndimage.label(~np.pad(mask, 1))
    for number, place in enumerate(ndimage.find_objects(holes), 1):
        if number == holes[0, 0]:  # the surroundings
            continue
        hole = holes[place] == number
        corners = _corners(np.pad(hole, 1))
        area = float((corners > 1).sum() + (corners == 1).sum() / 2)
        row, column = _first_pixel(hole, place)
        left, top, right, bottom = _box(place)
        # Minus the padding of one pixel; the outline goes through the pixels around the hole.
        yield area, (row - 1, column - 2), (left - 2, top - 2, right, bottom)


def _corners(region: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return how many of every four neighbouring pixels are inside, (H - 1, W - 1)."""
    whole = region.astype(np.uint8)
    rows = whole[1:] + whole[:-1]
    return np.asarray(rows[:, 1:] + rows[:, :-1])


def _first_pixel(region: NDArray[np.bool_], place: tuple[slice, ...]) -> tuple[int, int]:
    row, column = np.unravel_index(region.argmax(), region.shape)
    return int(row) + place[0].start, int(column) + place[1].start


def _box(place: tuple[slice, ...]) -> Box:
    rows, columns = place
    return columns.start, rows.start, columns.stop, rows.stop


def of_objects(mask: NDArray[np.bool_]) -> list[tuple[float, float, float, float]]:
    """Return (left, top, width, height) of each connected object in a mask (H, W) of one class."""
    regions, count = ndimage.label(mask, EIGHT)
    sizes = np.bincount(regions.ravel(), minlength=count + 1)[1:]
    boxes = [
        _box(place)
        for size, place in zip(sizes, ndimage.find_objects(regions), strict=True)
        if size >= FRAGMENT * sizes.max()
    ]
    return [(x, y, right - x, bottom - y) for x, y, right, bottom in boxes]


def overlaps(box: Box, true: Sequence[Box]) -> dict[str, NDArray[np.float64]]:
    """Return the shares in [0, 1] that the intersections with the true boxes have, each (boxes,).

    iou: share of the union. truth: share of the true box. own: share of `box`.
    """
    corners = np.asarray(true, np.float64).reshape(-1, 4)
    first, last = np.asarray(box[:2], np.float64), np.asarray(box[2:], np.float64)
    sides = np.minimum(last, corners[:, 2:]) - np.maximum(first, corners[:, :2]) + 1
    common = np.clip(sides, 0, None).prod(1)
    area, areas = (last - first + 1).prod(), (corners[:, 2:] - corners[:, :2] + 1).prod(1)
    return {"iou": common / (area + areas - common), "truth": common / areas, "own": common / area}


def outcome(is_class: bool, box: Box, true: Sequence[Box]) -> str:
    """Return how the answer for an image is right or wrong, the first of these that applies.

    is_class: the best class is the true one. box: the box of the best class's map. class: the best
    class is another one; right: the box fits a true one; multi_instance: the box covers several
    objects; part: it lies inside an object; more: it covers an object and too much around it.
    """
    if not is_class:
        return "class"
    shares = overlaps(box, true)
    if shares["iou"].max() > 0.5:
        return "right"
    if (shares["truth"] > 0.3).sum() > 1:
        return "multi_instance"
    if shares["own"].max() > 0.5:
        return "part"
    return "more" if shares["truth"].max() >= 0.7 else "wrong"


def score(
    label: int, ranked: Sequence[int], boxes: Sequence[Box], label_box: Box, true: Sequence[Box]
) -> Answer:
    """Return which criteria an image meets, and its outcome.

    label: the true class. ranked, boxes: the five classes with the highest scores, best first, and
    the boxes of their maps. label_box: the box of the true class's map.
    """
    iou, is_best = overlaps(label_box, true)["iou"].max(), ranked[0] == label
    is_right = label in ranked and iou > 0.5
    return Answer(
        top1_class=bool(is_best),
        top5_class=label in ranked,
        top1=bool(is_best and is_right),
        top5=bool(is_right),
        gt_known=bool(iou >= 0.5),
        outcome=outcome(is_best, boxes[0], true),
    )


FRAME_PX = 224  # CRT resizes an image to a square with this side, ignoring its aspect


def in_frame(
    box: tuple[float, float, float, float], size: tuple[int, int], side_px: int = FRAME_PX
) -> tuple[int, int, int, int]:
    """Return the box (first column, first row, last column, last row) in the resized square.

    box: (left, top, width, height) in an image of `size` (H, W). Coordinates are truncated to whole
    pixels before and after scaling, as CRT does.
    """
    left, top, width, height = map(int, box)

    def scaled(value: int, whole: int) -> float:
        return value / whole * side_px

    high, wide = size
    return (
        int(max(scaled(left, wide), 0)),
        int(max(scaled(top, high), 0)),
        int(min(scaled(left + width, wide), side_px - 1)),
        int(min(scaled(top + height, high), side_px - 1)),
    )


def true_boxes(entry: Entry, index: Index, side: int) -> list[Box]:
    """Return the boxes of the objects of an image in the square of `side` pixels.

    If the index has no boxes, they are the boxes of the connected objects in the mask.
    """
    boxes = list(entry.boxes)
    if not boxes and entry.mask:
        boxes = of_objects(load_entry_mask(entry) == index.numbers(entry.labels)[0] + 1)
    if not boxes:
        raise DatasetError(
            f"The image {entry.name} of {index.dataset} has neither boxes nor a mask of its class, so "
            "localization cannot be scored. Use a dataset with one of them."
        )
    return [in_frame(box, entry.size, side) for box in boxes]
