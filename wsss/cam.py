"""How class maps are brought to the range from 0 to 1."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

MAX_EPSILON = 1e-5  # added to the largest score before dividing by it (PSA, IRNet)


def over_max(maps: Tensor) -> Tensor:
    """Return maps (..., h, w), each divided by its largest score (PSA, IRNet)."""
    return maps / (maps.amax((-2, -1), keepdim=True) + MAX_EPSILON)


def over_range(maps: Tensor) -> Tensor:
    """Return maps (..., h, w), each less its smallest score and divided by its range (MCTformer)."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low + 1e-8)


def over_range_cut(maps: Tensor) -> Tensor:
    """Do what `over_range` does with what is above the smallest score by 1e-5 (PCSS)."""
    maps = F.relu(maps)
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return F.relu(maps - low - 1e-5) / (high - low + 1e-5)


def stretch(maps: Tensor) -> Tensor:
    """Return maps (..., h, w), each less its smallest score, then divided by its largest (ToCo)."""
    return over_max(maps - maps.amin((-2, -1), keepdim=True))


NORMALISERS = {
    "max": over_max,
    "range": over_range,
    "range_cut": over_range_cut,
    "stretch": stretch,
}
