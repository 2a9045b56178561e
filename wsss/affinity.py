"""Labels and pairs for AffinityNet (Ahn and Kwak, CVPR 2018) and IRNet (Ahn et al., CVPR 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsss.data.labelmap import IGNORE

if TYPE_CHECKING:  # label stages use this module too, and need not pay for torch
    from torch import Tensor

SMALLEST = 1e-5  # keeps logarithms finite, as published


def offsets(radius: int) -> list[tuple[int, int]]:
    """Return the steps (dy, dx) to the half disc of neighbours nearer than `radius` cells.

    Each unordered pair of cells is met once: dy > 0, or dy = 0 and dx > 0 (PSA's order).
    """
    right = [(0, dx) for dx in range(1, radius)]
    below = [
        (dy, dx)
        for dy in range(1, radius)
        for dx in range(-radius + 1, radius)
        if dy * dy + dx * dx < radius * radius
    ]
    return right + below


def windows(
    height: int, width: int, offset: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the slices (rows, columns) of the cells that have a neighbour at `offset`, and of these."""
    dy, dx = offset
    rows, columns = slice(0, max(0, height - dy)), slice(max(0, -dx), max(0, width - max(0, dx)))
    return (rows, columns), (slice(dy, height), slice(max(0, dx), width - max(0, -dx)))


def pair_affinities(features: Tensor, radius: int) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """Yield each offset with the affinities in (0, 1] of all pairs at it (B, rows, columns).

    features: (B, C, h, w). The affinity is exp(-mean |difference|) (PSA, Eq. 1). Slices instead of
    gathered pairs: memory is that of one offset where no gradient is kept.
    """
    height, width = features.shape[2:]
    for offset in offsets(radius):
        here, there = windows(height, width, offset)
        difference = features[:, :, here[0], here[1]] - features[:, :, there[0], there[1]]
        yield offset, difference.abs().mean(1).neg().exp()


def affinity_loss(features: Tensor, labels: Tensor, radius: int) -> dict[str, Tensor]:
    """Return PSA's three terms: pairs alike in background, alike in foreground, and unlike.

    features: (B, C, h, w). labels: (B, h, w), 255 is unknown and teaches nothing. The weights are
    1/4, 1/4, 1/2; a kind of pair that does not occur gives 0.
    """
    zero = features.sum() * 0.0
    sums = {name: [zero, zero.detach()] for name in ("background", "foreground", "unlike")}
    height, width = features.shape[2:]
    for offset, alike in pair_affinities(features, radius):
        here, there = windows(height, width, offset)
        first, second = labels[:, here[0], here[1]], labels[:, there[0], there[1]]
        known = (first != IGNORE) & (second != IGNORE)
        same = known & (first == second)
        terms = (
            ("background", same & (first == 0), -(alike + SMALLEST).log()),
            ("foreground", same & (first > 0), -(alike + SMALLEST).log()),
            ("unlike", known & (first != second), -(1 + SMALLEST - alike).log()),
        )
        for name, chosen, loss in terms:
            sums[name][0] = sums[name][0] + (loss * chosen).sum()
            sums[name][1] = sums[name][1] + chosen.sum()
    weights = {"background": 0.25, "foreground": 0.25, "unlike": 0.5}
    return {
        name: weights[name] * total / (count + SMALLEST) for name, (total, count) in sums.items()
    }


def from_thresholds(
    foreground: NDArray[Any], background: NDArray[Any], labels: Sequence[int]
) -> NDArray[np.uint8]:
    """Return confident labels (H, W) from two label images with compact labels 0..K.

    foreground: made with a generous background, so its foreground is sure. background: made with a
    meagre one, so its background is sure. labels: the classes (from 0) of compact labels 1..K.
    The rest is 255 (IRNet, Sec. 3.2; PSA, Sec. 3.2).
    """
    names = np.array([0, *(label + 1 for label in labels)], np.uint8)
    confident: NDArray[np.uint8] = names[foreground]
    confident[foreground == 0] = IGNORE
    confident[(foreground == 0) & (background == 0)] = 0
    return confident


def reduce_labels(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return labels (..., H, W) at `size` (h, w), taking the pixel at the middle of each cell."""
    rows = _middles(labels.shape[-2], size[0])
    columns = _middles(labels.shape[-1], size[1])
    return labels[..., rows[:, None], columns]


def _middles(length: int, cells: int) -> NDArray[np.intp]:
    return ((np.arange(cells) + 0.5) * length / cells).astype(np.intp)
