"""What kind of mistake a wrong pixel is: missed, spilled, confused, or only at a boundary.

A pixel is scored if the truth gives it a label, and wrong if the prediction gives it another one.
Every wrong pixel is of exactly one kind: `boundary` if it lies near another true label, and
otherwise what its two labels say. The kinds of an image therefore add up to its wrong pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsss.data.labelmap import BACKGROUND, IGNORE
from wsss.errors import DatasetError
from wsss.scores.metrics import Counts

KINDS = {
    "missed": "missed object: is of a class, was given background; or was given no class at all",
    "spilled": "spilled background: is background, was given a class",
    "confused": "confused class: is of a class, was given another one",
    "boundary": "boundary: wrong in any of these ways, but near a true boundary",
}


def near_boundary(truth: NDArray[Any], distance_px: int) -> NDArray[np.bool_]:
    """Return where another value of `truth` (H, W) is no further than `distance_px` from a pixel.

    The distance is Euclidean, between centres of pixels. An open pixel (255) is another value too:
    VOC draws its boundaries with them.
    """
    near = np.zeros(truth.shape, np.bool_)
    height, width = truth.shape
    for down in range(distance_px + 1):
        for right in range(-distance_px, distance_px + 1):
            is_seen = down == 0 and right <= 0  # from the other side
            if is_seen or down**2 + right**2 > distance_px**2:
                continue
            here = (slice(0, max(height - down, 0)), slice(max(-right, 0), max(width - right, 0)))
            there = (slice(down, None), slice(max(right, 0), max(width + right, 0)))
            differs = truth[here] != truth[there]
            near[here] |= differs
            near[there] |= differs
    return near


def mistakes(
    truth: NDArray[Any],
    prediction: NDArray[Any],
    boundary_px: int,
    unlabelled: str | None = None,
) -> Counts:
    """Count the scored pixels of an image, then its wrong ones by kind: (1 + len(KINDS),).

    truth, prediction: labels (H, W), 255 is open. unlabelled: what a predicted 255 is, as in
    `metrics.confusion`.
    """
    if truth.shape != prediction.shape:
        raise DatasetError(
            f"a prediction of size {prediction.shape} is compared with a mask of {truth.shape}"
        )
    scored, given = truth != IGNORE, prediction
    if unlabelled == "excluded":
        scored &= given != IGNORE
    elif unlabelled == "background":
        given = np.where(given == IGNORE, BACKGROUND, given)
    wrong = scored & (truth != given)
    boundary = wrong & near_boundary(truth, boundary_px)
    inner = wrong & ~boundary
    missed = inner & ((given == BACKGROUND) | (given == IGNORE))
    spilled = inner & ~missed & (truth == BACKGROUND)
    confused = inner & ~missed & ~spilled
    kinds = (scored, missed, spilled, confused, boundary)
    return np.array([np.count_nonzero(kind) for kind in kinds], np.int64)
