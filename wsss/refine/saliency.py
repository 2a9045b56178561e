"""Conflicts between pseudo labels, attention and saliency, left unlabelled (PCSformer's CSE)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsss.data.labelmap import IGNORE

Array = NDArray[Any]
LEAST = 0.4  # a score below it is none
SURE = 0.9  # two classes above it are a conflict
ATTENDED = 0.8  # attention above it is an object, wherever saliency sees none
SALIENT = 32  # of 255: what is so salient is no background
FEWEST = 0.01  # share of pixels with a class below which an image has no labels at all


def attention_image(scores: Array, *, wraps: bool = False) -> NDArray[np.uint8] | None:
    """Return a class map (H, W) as 8 bits, its largest value 255; none if it is nowhere positive.

    wraps: as published: negative values wrap around, and a map without positive ones becomes 255.
    """
    found = scores / (scores.max() + 1e-8)
    if wraps:
        return np.asarray((found * 255).astype(np.int64).astype(np.uint8))
    if scores.max() <= 0:
        return None
    return np.asarray((found.clip(0, 1) * 255).astype(np.uint8))


def keep_agreed(
    labels: NDArray[np.uint8],
    saliency: NDArray[np.uint8],
    attention: Mapping[int, NDArray[np.uint8]],
) -> NDArray[np.uint8]:
    """Return labels (H, W), 255 where attention and saliency do not lead to the same.

    saliency: 255 is salient (H, W). attention: by class from 0, of the present classes (H, W).
    """
    agreed = from_saliency(saliency, attention)
    kept = np.where(agreed == labels, labels, np.uint8(IGNORE))
    classes = (kept > 0) & (kept < IGNORE)
    if classes.sum() < FEWEST * labels.size:
        return np.full_like(labels, IGNORE)
    return np.asarray(kept)


def from_saliency(
    saliency: NDArray[np.uint8], attention: Mapping[int, NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """Return the labels (H, W) that attention and saliency lead to, 255 where they conflict."""
    scores = [1 - saliency.astype(np.float32) / np.float32(255)]
    salient = saliency.astype(np.float64)
    names = [0]
    for number in sorted(attention):
        image = attention[number].astype(np.float64)
        low, high = image.min(), image.max()
        spread = (image - low) / (high - low + 1e-8)
        salient = np.maximum(salient, 255.0 * (spread > ATTENDED))
        scores.append(spread.astype(np.float32))
        names.append(number + 1)
    stacked = np.stack(scores)
    stacked[stacked < np.float32(LEAST)] = 0
    found = np.array(names, np.uint8)[stacked.argmax(0)]
    found[(stacked > np.float32(SURE)).sum(0) > 1] = IGNORE
    found[(found == 0) & (salient >= SALIENT)] = IGNORE
    return np.asarray(found)
