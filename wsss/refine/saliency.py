"""PCSformer's CSE: pixels where pseudo labels, attention and saliency disagree become unlabelled."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wsss.data.labelmap import IGNORE

# Values of PCSformer's code.
LEAST = 0.4  # smaller scores count as 0
SURE = 0.9  # two classes above this score conflict
ATTENDED = 0.8  # attention above this is an object, even without saliency
SALIENT = 32  # of 255; a pixel at least this salient is not background
FEWEST = 0.01  # an image with a smaller share of labelled object pixels becomes unlabelled


def attention_image(
    scores: NDArray[np.floating], *, wraps: bool = False
) -> NDArray[np.uint8] | None:
    """Return a class map (H, W) as 8-bit values up to 255; None if no score is positive.

    wraps: as in the published code, negative values wrap around, and a map without positive scores
    becomes 255.
    """
    scaled = scores / (scores.max() + 1e-8)
    if wraps:
        return np.asarray((scaled * 255).astype(np.int64).astype(np.uint8))
    if scores.max() <= 0:
        return None
    return np.asarray((scaled.clip(0, 1) * 255).astype(np.uint8))


def keep_agreed(
    labels: NDArray[np.uint8],
    saliency: NDArray[np.uint8],
    attention: Mapping[int, NDArray[np.uint8]],
) -> NDArray[np.uint8]:
    """Return labels (H, W), with 255 where attention and saliency lead to another label.

    saliency: (H, W), 255 is salient. attention: maps (H, W) in [0, 255] of the present classes (from 0).
    """
    agreed = from_saliency(saliency, attention)
    labelled = np.where(agreed == labels, labels, np.uint8(IGNORE))
    classes = (labelled > 0) & (labelled < IGNORE)
    if classes.sum() < FEWEST * labels.size:
        return np.full_like(labels, IGNORE)
    return np.asarray(labelled)


def from_saliency(
    saliency: NDArray[np.uint8], attention: Mapping[int, NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """Return the labels (H, W) that attention and saliency lead to, with 255 where they conflict."""
    scores = [1 - saliency.astype(np.float32) / np.float32(255)]
    salient = saliency.astype(np.float64)
    names = [0]
    for number in sorted(attention):
        image = attention[number].astype(np.float64)
        low, high = image.min(), image.max()
        scaled = (image - low) / (high - low + 1e-8)
        salient = np.maximum(salient, 255.0 * (scaled > ATTENDED))
        scores.append(scaled.astype(np.float32))
        names.append(number + 1)
    stacked = np.stack(scores)
    stacked[stacked < np.float32(LEAST)] = 0
    labels = np.array(names, np.uint8)[stacked.argmax(0)]
    labels[(stacked > np.float32(SURE)).sum(0) > 1] = IGNORE
    labels[(labels == 0) & (salient >= SALIENT)] = IGNORE
    return np.asarray(labels)
