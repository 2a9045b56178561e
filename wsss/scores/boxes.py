"""Boxes: of what stands out in a class map, of the objects in a mask, and how well they agree.

A box is (left, top, right, bottom). Boxes from maps end one pixel after their last, true ones at it,
and both are compared as if they ended at it: so the published code scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsss.data.images import load_mask
from wsss.data.index import Entry, Index
from wsss.errors import DatasetError

Box = tuple[int, int, int, int]
NOTHING: Box = (0, 0, 1, 1)  # the box of a map in which nothing stands out
EIGHT = np.ones((3, 3), np.bool_)  # diagonal neighbours touch
FRAGMENT = 0.1  # of an object's largest part; smaller parts are what another object leaves to see

OUTCOMES = ("right", "class", "multi_instance", "part", "more", "wrong")


def from_map(scores: NDArray[np.float32], threshold: float) -> Box:
    """Return the box of what stands out in a map (H, W); a constant map has none.

    threshold: share of the range of the scores.
    """
    low, high = scores.min(), scores.max()
    if not high > low:
        return NOTHING
    return above((scores - low) / (high - low), threshold)


def above(scores: NDArray[np.float32], threshold: float) -> Box:
    """Return the box of the outline with the largest area where scores (H, W) in [0, 1] are high.

    High is what is above `threshold` of the largest, both in 255 steps.
    """
    levels = (255 * scores).astype(np.uint8)
    mask = levels > int(threshold * levels.max())
    found = max(outlines(mask), default=None, key=lambda outline: outline[:2])
    return NOTHING if found is None else found[2]


def outlines(mask: NDArray[np.bool_]) -> Iterator[tuple[float, tuple[int, int], Box]]:
    """Yield area, beginning (row, column) and box of each outline of regions and of holes in them.

    The lines go through the centres of the region's pixels, as OpenCV's contours do, so that a line
    one pixel wide has area 0. They are found here without following them: the area between four
    neighbouring centres is inside, half inside or outside. Holes are joined over sides alone.
    """
    regions, _ = ndimage.label(mask, EIGHT)
    for number, place in enumerate(ndimage.find_objects(regions), 1):
        own = regions[place] == number
        corners = _corners(ndimage.binary_fill_holes(own))
        area = float((corners == 4).sum() + (corners == 3).sum() / 2)
        yield area, _beginning(own, place), _box(place)
    holes, _ = ndimage.label(~np.pad(mask, 1))
    for number, place in enumerate(ndimage.find_objects(holes), 1):
        if number == holes[0, 0]:  # what is around everything
            continue
        own = holes[place] == number
        corners = _corners(np.pad(own, 1))
        area = float((corners > 1).sum() + (corners == 1).sum() / 2)
        row, column = _beginning(own, place)
        left, top, right, bottom = _box(place)
        # One pixel of padding above, and the line goes through the region's pixels around the hole.
        yield area, (row - 1, column - 2), (left - 2, top - 2, right, bottom)


def _corners(region: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return how many of each four neighbouring pixels are inside."""
    whole = region.astype(np.uint8)
    rows = whole[1:] + whole[:-1]
    return np.asarray(rows[:, 1:] + rows[:, :-1])


def _beginning(region: NDArray[np.bool_], place: tuple[slice, ...]) -> tuple[int, int]:
    row, column = np.unravel_index(region.argmax(), region.shape)
    return int(row) + place[0].start, int(column) + place[1].start


def _box(place: tuple[slice, ...]) -> Box:
    rows, columns = place
    return columns.start, rows.start, columns.stop, rows.stop


def of_objects(mask: NDArray[np.bool_]) -> list[tuple[float, float, float, float]]:
    """Return (left, top, width, height) of each connected object in a mask (H, W) of one class."""
    regions, count = ndimage.label(mask, EIGHT)
    sizes = np.bincount(regions.ravel(), minlength=count + 1)[1:]
    found = [
        _box(place)
        for size, place in zip(sizes, ndimage.find_objects(regions), strict=True)
        if size >= FRAGMENT * sizes.max()
    ]
    return [(x, y, right - x, bottom - y) for x, y, right, bottom in found]


def overlaps(box: Box, truth: Sequence[Box]) -> dict[str, NDArray[np.float64]]:
    """Return the intersection of a box with each true one: over union, true area, and its own."""
    theirs = np.asarray(truth, np.float64).reshape(-1, 4)
    ours = np.asarray(box, np.float64)
    sides = np.minimum(ours[2:], theirs[:, 2:]) - np.maximum(ours[:2], theirs[:, :2]) + 1
    common = np.clip(sides, 0, None).prod(1)
    own, true = (ours[2:] - ours[:2] + 1).prod(), (theirs[:, 2:] - theirs[:, :2] + 1).prod(1)
    return {"iou": common / (own + true - common), "truth": common / true, "own": common / own}


def outcome(is_class: bool, box: Box, truth: Sequence[Box]) -> str:
    """Return how the answer for an image is right or wrong, the first of these that applies.

    is_class: whether the class with the highest score is the true one. box: of that class's map. class:
    it is not; multi_instance: the box has several objects; part: it lies in an object; more: it has
    the object and too much around it.
    """
    if not is_class:
        return "class"
    found = overlaps(box, truth)
    if found["iou"].max() > 0.5:
        return "right"
    if (found["truth"] > 0.3).sum() > 1:
        return "multi_instance"
    if found["own"].max() > 0.5:
        return "part"
    return "more" if found["truth"].max() >= 0.7 else "wrong"


def score(
    label: int, ranked: Sequence[int], boxes: Sequence[Box], own: Box, truth: Sequence[Box]
) -> dict[str, Any]:
    """Return which of the criteria an image meets, and its outcome.

    label: the true class. ranked, boxes: the five classes with the highest scores, best first, and the
    boxes of their maps. own: the box of the map of the true class.
    """
    hit, best = overlaps(own, truth)["iou"].max(), ranked[0] == label
    placed = label in ranked and hit > 0.5
    return {
        "top1_class": bool(best),
        "top5_class": label in ranked,
        "top1": bool(best and placed),
        "top5": bool(placed),
        "gt_known": bool(hit >= 0.5),
        "outcome": outcome(best, boxes[0], truth),
    }


FRAME_PX = 224  # side of the square that published code resizes an image to, ignoring its aspect


def in_frame(
    box: tuple[float, float, float, float], size: tuple[int, int], side_px: int = FRAME_PX
) -> tuple[int, int, int, int]:
    """Return the first and last column and row (x1, y1, x2, y2) of a box in the resized square.

    box: (left, top, width, height) in an image of `size` (H, W). Everything is cut to whole pixels
    before and after scaling, as CRT does.
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

    Without boxes in the index they are those of the connected objects in the mask.
    """
    own = list(entry.boxes)
    if not own and entry.mask:
        own = of_objects(load_mask(entry.mask) == index.numbers(entry.labels)[0] + 1)
    if not own:
        raise DatasetError(
            f"The image {entry.name} of {index.dataset} has neither boxes nor a mask of its class, so "
            "localization cannot be scored. Use a dataset with one of them."
        )
    return [in_frame(box, entry.size, side) for box in own]
