"""Pixel-adaptive refinement (PAR; Ru et al., ToCo, CVPR 2023): scores spread to pixels of like colour.

It has no trainable weights and runs on the device of its inputs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Values of ToCo's code.
DILATIONS = (1, 2, 4, 8, 12, 24)  # pixels from a pixel to its neighbours
SHARPNESS = 0.3  # width of both kernels, in standard deviations
POSITION_WEIGHT = 0.01
SMALLEST = 1e-8
DIRECTIONS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x)


def refine(
    images: Tensor, scores: Tensor, dilations: Sequence[int] = DILATIONS, iterations: int = 10
) -> Tensor:
    """Return scores (B, K, H, W) after `iterations` averages over 8 neighbours at each dilation.

    images: (B, 3, H, W) in [0, 1]. scores: (B, K, h, w), resized to (H, W) first. The weights of a pixel
    sum to 1.01, so scores grow by this factor in each iteration.
    """
    size = images.shape[2:]
    if scores.shape[2:] != size:
        scores = F.interpolate(scores, size, mode="bilinear", align_corners=True)
    weights = _weights(images, dilations)
    for _ in range(iterations):
        spread = zip(weights.unbind(1), _neighbours(scores, dilations), strict=True)
        scores = functools.reduce(torch.add, (weight[:, None] * value for weight, value in spread))
    return scores


def _neighbours(values: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """Yield the values (B, C, H, W) at each neighbour; outside the image, the edge is repeated."""
    height, width = values.shape[2:]
    for reach in dilations:
        padded = F.pad(values, [reach] * 4, mode="replicate")
        for y, x in DIRECTIONS:
            top, left = reach * (1 + y), reach * (1 + x)
            yield padded[:, :, top : top + height, left : left + width]


def _weights(images: Tensor, dilations: Sequence[int]) -> Tensor:
    """Return the weights (B, neighbours, H, W) of the neighbours of every pixel."""
    near = torch.stack(list(_neighbours(images, dilations)), 1)
    spread = near.std(1, keepdim=True) + SMALLEST
    colour = -((near - images[:, None]) / spread / SHARPNESS).square().mean(2)
    lengths = images.new_tensor([d * math.hypot(y, x) for d in dilations for y, x in DIRECTIONS])
    position = -(lengths / (lengths.std() + SMALLEST) / SHARPNESS).square()
    return colour.softmax(1) + POSITION_WEIGHT * position.softmax(0)[:, None, None]
