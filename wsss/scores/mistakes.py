"""The kind of mistake of every wrong pixel: missed, spilled, confused, or only at a boundary.

A pixel is scored if it has a true label, and wrong if its predicted label is another one. Every
wrong pixel has exactly one kind: `boundary` if it lies near another true label, otherwise the kind
that follows from its two labels. The kinds of an image therefore add up to its wrong pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsss.data.labelmap import BACKGROUND, IGNORE
from wsss.errors import DatasetError
from wsss.scores.metrics import Counts

KINDS = {
    "missed": "missed object: of a class, predicted as background; or predicted as no class",
    "spilled": "spilled background: background, predicted as a class",
    "confused": "confused class: of a class, predicted as another one",
    "boundary": "boundary: wrong in any of these ways, near a true boundary",
}


def near_boundary(truth: NDArray[np.uint8], distance_px: int) -> NDArray[np.bool_]:
    """Return which pixels (H, W) have another true label within `distance_px`.

    The distance is Euclidean, between centres of pixels. Label 255 counts as another label: VOC
    draws its boundaries with it.
    """
    near = np.zeros(truth.shape, np.bool_)
    height, width = truth.shape
    for down in range(distance_px + 1):
        for right in range(-distance_px, distance_px + 1):
            is_repeated = down == 0 and right <= 0  # the pair in the other direction
            if is_repeated or down**2 + right**2 > distance_px**2:
                continue
            here = (slice(0, max(height - down, 0)), slice(max(-right, 0), max(width - right, 0)))
            there = (slice(down, None), slice(max(right, 0), max(width + right, 0)))
            differs = truth[here] != truth[there]
            near[here] |= differs
            near[there] |= differs
    return near


def mistakes(
    truth: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    boundary_px: int,
    unlabelled: str | None = None,
) -> Counts:
    """Return the number of scored pixels of an image, then of wrong ones by kind: (1 + KINDS,).

    truth, prediction: labels (H, W), 255 for no label. unlabelled: how a predicted 255 counts, as
    in `metrics.confusion`.
    """
    if truth.shape != prediction.shape:
        raise DatasetError(
            f"a prediction of size {prediction.shape} is compared with a mask of {truth.shape}"
        )
    scored, predicted = truth != IGNORE, prediction
    if unlabelled == "excluded":
        scored &= predicted != IGNORE
    elif unlabelled == "background":
        predicted = np.where(predicted == IGNORE, np.uint8(BACKGROUND), predicted)
    wrong = scored & (truth != predicted)
    boundary = wrong & near_boundary(truth, boundary_px)
    inner = wrong & ~boundary
    missed = inner & ((predicted == BACKGROUND) | (predicted == IGNORE))
    spilled = inner & ~missed & (truth == BACKGROUND)
    confused = inner & ~missed & ~spilled
    kinds = (scored, missed, spilled, confused, boundary)
    return np.array([np.count_nonzero(kind) for kind in kinds], np.int64)
