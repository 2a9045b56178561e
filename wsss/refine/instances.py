"""Instance labels from a displacement field (IRNet, Ahn et al., CVPR 2019, Sec. 5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

STEPS = 300  # of every cell towards its centre
STILL = 2.5  # cells: a shorter displacement marks a centre
SMALLEST_SHARE = 0.01  # of the image; a smaller instance has score 0


@dataclass(frozen=True)
class Instance:
    """One object: its class (from 0), its pixels (H, W) and a score in [0, 1]."""

    label: int
    mask: NDArray[np.bool_]
    score: float


def centroids(field: NDArray[np.float32], steps: int = STEPS) -> NDArray[np.intp]:
    """Return where each cell ends (2, h, w) when it follows the field (2, h, w) `steps` times.

    field: downwards and to the right, in cells; read between cells bilinearly.
    """
    height, width = field.shape[1:]
    limits = np.array([height - 1, width - 1], np.float32)[:, None, None]
    place = np.mgrid[:height, :width].astype(np.float32)
    for _ in range(steps):
        place = np.clip(place + _between(field, place), 0, limits)
    return np.rint(place).astype(np.intp)


def _between(field: NDArray[np.float32], place: NDArray[np.float32]) -> NDArray[np.float32]:
    (top, left), (bottom, right) = np.floor(place).astype(int), np.ceil(place).astype(int)
    down, across = place[0] - top, place[1] - left
    upper = field[:, top, left] * (1 - across) + field[:, top, right] * across
    lower = field[:, bottom, left] * (1 - across) + field[:, bottom, right] * across
    return np.asarray(upper * (1 - down) + lower * down, np.float32)


def clusters(field: NDArray[np.float32], steps: int = STEPS) -> NDArray[np.intp]:
    """Return the object that each cell belongs to (h, w), numbered from 0.

    Centres are the connected regions where the field rests; cells that reach none are one object.
    """
    still = np.hypot(field[0], field[1]) < STILL
    regions, _ = scipy.ndimage.label(still)
    ends = centroids(field, steps)
    _, numbers = np.unique(regions[ends[0], ends[1]], return_inverse=True)
    return np.asarray(numbers.reshape(still.shape))


def per_object(maps: NDArray[Any], objects: NDArray[np.intp]) -> NDArray[Any]:
    """Return class maps (K, h, w) as K * M channels, one for each class and, inside, each object."""
    masks = objects == np.arange(objects.max() + 1)[:, None, None]
    return np.asarray((maps[:, None] * masks[None]).reshape(-1, *objects.shape))


def detections(
    scores: NDArray[np.float32], labels: Sequence[int], objects: int, threshold: float
) -> list[Instance]:
    """Return the instances of walked channels (K * M, H, W), divided by their largest score.

    labels: the K classes. A channel's winning pixels above the threshold are split into connected
    regions; each has its highest score, or 0 if it is smaller than 1 % of the image.
    """
    winner = np.where(scores.max(0) > np.float32(threshold), scores.argmax(0), -1)
    found = []
    for channel in np.unique(winner[winner >= 0]):
        regions, count = scipy.ndimage.label(winner == channel)
        for number in range(1, count + 1):
            mask = regions == number
            large = mask.mean() >= SMALLEST_SHARE
            score = float(scores[channel][mask].max()) if large else 0.0
            found.append(Instance(int(labels[channel // objects]), mask, score))
    return found
