"""Instance labels from a displacement field (IRNet, Ahn et al., CVPR 2019, Sec. 5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

# Values of IRNet's code.
STEPS = 300  # moves of every cell towards its centre
STILL = 2.5  # cells; a shorter displacement marks a centre
SMALLEST_SHARE = 0.01  # share of the image; a smaller instance has score 0


@dataclass(frozen=True)
class Instance:
    """One object: its class (from 0), its mask (H, W) and a score in [0, 1]."""

    label: int
    mask: NDArray[np.bool_]
    score: float


def centroids(field: NDArray[np.float32], steps: int = STEPS) -> NDArray[np.intp]:
    """Return the row and column (2, h, w) that each cell reaches after `steps` moves along the field.

    field: displacements (2, h, w), downwards and to the right, in cells; interpolated bilinearly.
    """
    height, width = field.shape[1:]
    limits = np.array([height - 1, width - 1], np.float32)[:, None, None]
    position = np.mgrid[:height, :width].astype(np.float32)
    for _ in range(steps):
        position = np.clip(position + _between(field, position), 0, limits)
    return np.rint(position).astype(np.intp)


def _between(field: NDArray[np.float32], place: NDArray[np.float32]) -> NDArray[np.float32]:
    (top, left), (bottom, right) = np.floor(place).astype(int), np.ceil(place).astype(int)
    down, across = place[0] - top, place[1] - left
    upper = field[:, top, left] * (1 - across) + field[:, top, right] * across
    lower = field[:, bottom, left] * (1 - across) + field[:, bottom, right] * across
    return np.asarray(upper * (1 - down) + lower * down, np.float32)


def clusters(field: NDArray[np.float32], steps: int = STEPS) -> NDArray[np.intp]:
    """Return the object number (h, w) of each cell, from 0; field: displacements (2, h, w).

    An object is the cells that reach one connected region of short displacements; all cells that reach
    no such region form one object.
    """
    still = np.hypot(field[0], field[1]) < STILL
    regions, _ = scipy.ndimage.label(still)
    ends = centroids(field, steps)
    _, numbers = np.unique(regions[ends[0], ends[1]], return_inverse=True)
    return np.asarray(numbers.reshape(still.shape))


def per_object(maps: NDArray[np.floating], objects: NDArray[np.intp]) -> NDArray[np.floating]:
    """Return class maps (K, h, w) split by object: (K * M, h, w), the M objects of a class in a row."""
    masks = objects == np.arange(objects.max() + 1)[:, None, None]
    return np.asarray((maps[:, None] * masks[None]).reshape(-1, *objects.shape))


def detections(
    scores: NDArray[np.float32], labels: Sequence[int], objects: int, threshold: float
) -> list[Instance]:
    """Return the instances in the walked maps (K * M, H, W) of `per_object`, scaled to [0, 1].

    labels: the K classes. objects: M. The pixels that a channel wins above the threshold are split
    into connected regions; the score of a region is its highest, or 0 below 1 % of the image.
    """
    winner = np.where(scores.max(0) > np.float32(threshold), scores.argmax(0), -1)
    instances = []
    for channel in np.unique(winner[winner >= 0]):
        regions, count = scipy.ndimage.label(winner == channel)
        for number in range(1, count + 1):
            mask = regions == number
            large = mask.mean() >= SMALLEST_SHARE
            score = float(scores[channel][mask].max()) if large else 0.0
            instances.append(Instance(int(labels[channel // objects]), mask, score))
    return instances
