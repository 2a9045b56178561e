"""Images of 8 bits on the device: their normalisation, and Pillow's resize."""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsss.data.normalisation import Normalisation

WEIGHT_BITS = 22  # Pillow's precision: its sums have 32 bits, values 8, and overshoot needs 2
HALF = 1 << (
    WEIGHT_BITS - 1
)  # added before the bits after the point are cut, so that sums are rounded


def normalised(pixels: Tensor, normalise: Normalisation) -> Tensor:
    """Return RGB images (B, H, W, 3) of 8 bits normalised, float32 (B, 3, H, W).

    On a processor the values are those of `Normalisation`, bit by bit. The result is in channels-last
    memory format.
    """
    unit, mean, std = _constants(normalise, pixels.device)
    ordered = pixels.flip(-1) if normalise.bgr else pixels
    return ordered.float().div_(unit).sub_(mean).div_(std).permute(0, 3, 1, 2)


@functools.cache
def _constants(normalise: Normalisation, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return unit (1,), mean (3,) and standard deviation (3,) on a device.

    `unit` is a tensor because a GPU multiplies by the reciprocal of a number, which rounds otherwise.
    """
    with torch.inference_mode(False):  # they outlive the block in which they are first needed
        return (
            torch.tensor([normalise.unit], device=device),
            torch.tensor(normalise.mean, device=device),
            torch.tensor(normalise.std, device=device),
        )


def resized(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images (B, H, W, 3) of 8 bits at `size`, by the antialiased bicubic of Pillow.

    The bytes are those of Pillow 13: resize one dimension, then the other, with weights of 22 bits after
    the point, and round to 8 bits after each. Where both sides shrink and one shrinks far more, Pillow may
    begin with the other dimension.
    """
    height, width = pixels.shape[1:3]
    targets = [(2, size[1]), (1, size[0])]
    if size[0] < height and size[1] > width:
        targets.reverse()
    for dimension, target in targets:
        if pixels.shape[dimension] != target:
            pixels = _resized_along(pixels, dimension, target)
    return pixels


def _resized_along(pixels: Tensor, dimension: int, length: int) -> Tensor:
    """Return images (B, H, W, 3) whose rows (dimension 1) or columns (dimension 2) are `length`."""
    places, weights = _taps(pixels.shape[dimension], length, pixels.device)
    shape = (length, 1, 1) if dimension == 1 else (length, 1)
    total = torch.full((), HALF, dtype=torch.int32, device=pixels.device)
    for place, weight in zip(places, weights, strict=True):
        total = pixels.index_select(dimension, place).int().mul_(weight.view(shape)).add_(total)
    return total.bitwise_right_shift_(WEIGHT_BITS).clamp_(0, 255).to(torch.uint8)


@functools.lru_cache(256)
def _taps(old: int, new: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the old pixels (taps, new) that new pixels are made from, and their weights (taps, new).

    Weights are whole numbers of 2 ** -WEIGHT_BITS, computed in the order in which Pillow does.
    """
    scale = old / new
    stretch = max(scale, 1.0)
    centre = (np.arange(new) + 0.5) * scale
    first = np.maximum((centre - 2 * stretch + 0.5).astype(np.int64), 0)
    end = np.minimum((centre + 2 * stretch + 0.5).astype(np.int64), old)
    places = first + np.arange((end - first).max())[:, None]
    weights = np.where(places < end, _bicubic((places - centre + 0.5) * (1 / stretch)), 0.0)
    weights = weights / functools.reduce(np.add, weights)
    whole = np.trunc(weights * 2**WEIGHT_BITS + np.copysign(0.5, weights)).astype(np.int32)
    with torch.inference_mode(False):
        return (
            torch.from_numpy(np.minimum(places, old - 1)).to(device),
            torch.from_numpy(whole).to(device),
        )


def _bicubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the bicubic kernel with a = -0.5 at distances in old pixels, divided by the stretch."""
    a, x = -0.5, np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
