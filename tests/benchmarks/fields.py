"""Refinement by colour: PAR, one neighbour after the other against copies of all."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from measure import Row, compare, difference, row

from wsss.refine import par

CLASSES = 21


def pixel_adaptive() -> Iterator[Row]:
    """Refine the scores of two images with PAR: all neighbours stacked against one after the other."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 160, 160, generator=generator)
    scores = torch.rand(2, CLASSES, 160, 160, generator=generator)
    with torch.inference_mode():
        both = compare(
            lambda: stacked(images, scores), lambda: par.refine(images, scores), rounds=3
        )
    said = difference(both[0].result, both[1].result, "PAR", 1e-4)
    setting = f"2 images of 160 px, {CLASSES} channels, 10 iterations"
    yield row("PAR", setting, both, said, goal=1)


def stacked(images: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Return refined scores (B, K, H, W) with copies of all 48 neighbours in memory (ToCo)."""

    def neighbours(values: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = values.shape
        kernel = torch.zeros(8, 1, 3, 3)
        for number, (y, x) in enumerate(par.DIRECTIONS):
            kernel[number, 0, y + 1, x + 1] = 1
        found = []
        for reach in par.DILATIONS:
            padded = F.pad(values, [reach] * 4, mode="replicate")
            flat = padded.reshape(batch * channels, 1, *padded.shape[2:])
            seen = F.conv2d(flat, kernel, dilation=reach)
            found.append(seen.reshape(batch, channels, 8, height, width))
        return torch.cat(found, 2)

    near = neighbours(images)
    spread = near.std(2, keepdim=True) + par.SMALLEST
    colour = -((near - images[:, :, None]) / spread / par.SHARPNESS).square().mean(1, keepdim=True)
    lengths = torch.tensor([d * math.hypot(y, x) for d in par.DILATIONS for y, x in par.DIRECTIONS])
    position = -(lengths / (lengths.std() + par.SMALLEST) / par.SHARPNESS).square()
    position = position.softmax(0)[None, None, :, None, None]
    weights = colour.softmax(2) + par.POSITION_WEIGHT * position
    for _ in range(10):
        scores = (neighbours(scores) * weights).sum(2)
    return scores
