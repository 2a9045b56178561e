"""Spread class maps by the attention of a vision transformer, from inside boxes (CLIP-ES, ExCEL, WeCLIP)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

EPSILON = 1e-7  # added to the largest score before dividing by it
COUNT_EPSILON = 1e-5  # added to the number of selected blocks
ROUNDS = 3  # of Sinkhorn's normalisation
EIGHT_CONNECTED = np.ones((3, 3), int)


def over_largest(maps: Tensor) -> Tensor:
    """Subtract its smallest score from each of the maps (..., h, w), divide by the largest that remains."""
    maps = maps - maps.amin((-2, -1), keepdim=True)
    return maps / (EPSILON + maps.amax((-2, -1), keepdim=True))


def sinkhorn(attention: Tensor, rounds: int = ROUNDS) -> Tensor:
    """Return a symmetric transition matrix (..., n, n) from attention (..., n, n), rows are queries.

    Columns, then rows are divided by their sums, `rounds` times, so that both sum to nearly 1.
    """
    for _ in range(rounds):
        attention = attention / attention.sum(-2, keepdim=True)
        attention = attention / attention.sum(-1, keepdim=True)
    return (attention + attention.transpose(-2, -1)) / 2


def boxes(maps: Tensor, share: float, cut: bool = False) -> Tensor:
    """Return where the boxes of high scores are, 0 or 1, for maps (..., h, w) in [0, 1].

    A box bounds one region of neighbours, diagonal ones too, whose scores are above `share` of the
    largest one, in 8 bits. cut: as published, boxes end one cell early at the right and lower border.
    """
    scores = (255 * maps.detach()).to(torch.uint8).cpu().numpy()
    inside = np.zeros_like(scores)
    for place in np.ndindex(scores.shape[:-2]):
        _mark_boxes(inside[place], scores[place], share, cut)
    return torch.from_numpy(inside).to(maps)


def _mark_boxes(
    inside: NDArray[np.uint8], scores: NDArray[np.uint8], share: float, cut: bool
) -> None:
    """Set `inside` (h, w) to 1 in the boxes of one map of scores (h, w)."""
    regions, _ = ndimage.label(scores > share * scores.max(), EIGHT_CONNECTED)
    height, width = (side - cut for side in scores.shape)
    for rows, columns in ndimage.find_objects(regions):
        inside[rows.start : min(rows.stop, height), columns.start : min(columns.stop, width)] = 1


def spread(
    maps: Tensor,
    attention: Tensor,
    share: float | None,
    cut: bool = False,
    weights: Tensor | None = None,
) -> Tensor:
    """Return `transferred` maps (B, C, h, w), stretched to [0, 1]. A map of zeros stays one."""
    return over_largest(transferred(maps, attention, share, cut, weights)).to(maps.dtype)


def transferred(
    maps: Tensor,
    attention: Tensor,
    share: float | None,
    cut: bool = False,
    weights: Tensor | None = None,
) -> Tensor:
    """Return maps (B, C, h, w) in [0, 1] after two steps of the transitions that attention leads to.

    attention: between cells (B, h * w, h * w), rows are queries. share, cut: of `boxes`; scores outside
    of a map's boxes are not spread. share: None spreads all scores. weights: factors of the scores
    (B, C, h, w), which the boxes do not depend on. The result is of float64: where all cells attend
    nearly alike the scores hardly differ, and stretching them would enlarge rounding.
    """
    symmetric = sinkhorn(attention.double())
    starts = maps if share is None else maps * boxes(maps, share, cut)
    starts = starts if weights is None else starts * weights
    moved = starts.double().flatten(2) @ symmetric @ symmetric
    return moved.view_as(maps)


def least_class_attention(attention: Tensor) -> Tensor:
    """Return which blocks (B, L) are selected from their attention between patches (B, L, n, n).

    Selected are the blocks whose patches attend to special tokens less than the mean of all blocks: their
    sum is at least the mean sum. (The published form compares sums of differences from an affinity,
    which is the same number for all blocks and so changes nothing.)
    """
    mass = attention.double().sum((-2, -1))
    return mass >= mass.mean(1, keepdim=True) * (1 - 1e-12)


def selected_mean(attention: Tensor) -> Tensor:
    """Return the mean (B, n, n) of the attention (B, L, n, n) of the selected blocks."""
    chosen = least_class_attention(attention)
    total = (attention * chosen[:, :, None, None]).sum(1)
    return total / (chosen.sum(1) + COUNT_EPSILON)[:, None, None]
