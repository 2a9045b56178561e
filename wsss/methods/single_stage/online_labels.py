"""From a CAM to labels while a network trains (ToCo, CVPR 2023): per pixel, and for pairs of cells.

A valid CAM holds the scores of an image's own classes, 0 for all others. Labels are 0 for background,
k + 1 for class k, 255 where nothing is said. A box (top, left, bottom, right) in pixels is the part
of a crop that is image; outside of it nothing is said.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.data.labelmap import IGNORE
from wsss.data.resize import in_boxes
from wsss.refine import par

UNSURE = -1  # of a region: between background and object
REGION_BACKGROUND, REGION_UNSURE, REGION_OBJECT = 0, 1, 2  # ToCo's regions


@dataclass(frozen=True)
class Thresholds:
    """Scores above `high` are an object, those up to `low` background, the others neither."""

    high: float
    low: float


def valid_cam(cams: Tensor, present: Tensor) -> Tensor:
    """Return the maps (B, C, H, W) of the present classes (B, C) of 0 and 1; the others are 0."""
    return cams * present[:, :, None, None]


def plain(valid: Tensor, background: float) -> Tensor:
    """Return labels (B, H, W): the class of the largest score, background up to `background`."""
    score, best = valid.max(1)
    return torch.where(score <= background, 0, best + 1)


def three_way(valid: Tensor, thresholds: Thresholds, between: int = IGNORE) -> Tensor:
    """Return labels (B, H, W) of what is sure; the band between the thresholds is `between`."""
    score, best = valid.max(1)
    labels = torch.where(score <= thresholds.high, between, best + 1)
    return torch.where(score <= thresholds.low, 0, labels)


def regions(valid: Tensor, thresholds: Thresholds) -> Tensor:
    """Return ToCo's regions (B, H, W): 0 background, 1 unsure, 2 object; all of the crop is image."""
    score = valid.amax(1)
    found = torch.where(score >= thresholds.high, REGION_OBJECT, REGION_UNSURE)
    return torch.where(score <= thresholds.low, REGION_BACKGROUND, found)


def boxed(labels: Tensor, boxes: Tensor) -> Tensor:
    """Return labels (B, H, W) that are 255 outside their box (B, 4)."""
    height, width = labels.shape[1:]
    return torch.where(in_boxes(boxes, (height, width)), labels, IGNORE)


def cells_of(boxes: Tensor, cell: int) -> Tensor:
    """Return boxes (B, 4) in cells of `cell` pixels: every cell that the image touches."""
    begin = torch.div(boxes[:, :2], cell, rounding_mode="floor")
    end = torch.div(boxes[:, 2:] + cell - 1, cell, rounding_mode="floor")
    return torch.cat((begin, end), 1)


def pairs(labels: Tensor) -> Tensor:
    """Return for every pair of cells (B, n, n) of labels (B, h, w): 1 if alike, 0 if not.

    It is 255 where either says nothing, and on the diagonal.
    """
    flat = labels.flatten(1)
    alike = (flat[:, :, None] == flat[:, None, :]).long()
    silent = flat == IGNORE
    alike[silent[:, :, None] | silent[:, None, :]] = IGNORE
    alike.diagonal(dim1=1, dim2=2).fill_(IGNORE)
    return alike


def unit_images(images: Tensor, mean: Tensor, std: Tensor, truncate: bool) -> Tensor:
    """Return normalised images (B, 3, H, W) as 8-bit colours over 255.

    mean, std: (3,) of values in [0, 255]. truncate: cut to whole colours as published, which makes
    some one too small, instead of rounding.
    """
    colours = images * std[:, None, None] + mean[:, None, None]
    whole = colours.trunc() if truncate else colours.round()
    return whole.clamp(0, 255) / 255


def refined(
    images: Tensor,
    valid: Tensor,
    present: Tensor,
    boxes: Tensor,
    thresholds: Thresholds,
    shrink: int,
) -> Tensor:
    """Return labels (B, H, W) after PAR, sure where a high and a low background threshold agree.

    images: (B, 3, H, W) in [0, 1]. valid: (B, C, H, W). present: (B, C) of 0 and 1. boxes: (B, 4).
    shrink: pixels per cell that PAR works on.
    """
    size = valid.shape[2:]
    small = [length // shrink for length in size]
    pictures = F.interpolate(images, small, mode="bilinear", align_corners=False)
    classes, scores = _stacked(valid, present, thresholds, small)
    weighed = scores.masked_fill(~classes[:, None, :, None, None].expand_as(scores), -torch.inf)
    spread = par.refine(pictures, weighed.softmax(2).flatten(1, 2))
    spread = F.interpolate(spread, size, mode="bilinear", align_corners=False)
    spread = spread.reshape(*scores.shape[:3], *size)
    spread = spread.masked_fill(~classes[:, None, :, None, None].expand_as(spread), -torch.inf)
    order = _ordered(present)
    named = F.pad(order + 1, (1, 0))  # channel 0 is the background
    high, low = (
        named.gather(1, choice.flatten(1)).view_as(choice) for choice in spread.argmax(2).unbind(1)
    )
    silent = torch.where(low == 0, 0, IGNORE)
    return boxed(torch.where(high > 0, high, silent), boxes)


def _ordered(present: Tensor) -> Tensor:
    """Return the classes (B, K) of each image, ascending, then others up to the largest number."""
    most = max(1, int(present.sum(1).max()))
    return present.ne(0).to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]


def _stacked(
    valid: Tensor, present: Tensor, thresholds: Thresholds, size: list[int]
) -> tuple[Tensor, Tensor]:
    """Return which channels are used (B, 1 + K), and scores (B, 2, 1 + K, h, w).

    The first channel is the background, at the high and at the low threshold; the others are maps of
    the image's classes, as many as the image with the most has.
    """
    order = _ordered(present)
    used = F.pad(present.gather(1, order).ne(0), (1, 0), value=True)
    rows = torch.arange(len(valid), device=valid.device)[:, None]
    own = F.interpolate(valid[rows, order], size, mode="bilinear", align_corners=False)
    levels = (thresholds.high, thresholds.low)
    planes = [torch.cat((torch.full_like(own[:, :1], level), own), 1) for level in levels]
    return used, torch.stack(planes, 1)
