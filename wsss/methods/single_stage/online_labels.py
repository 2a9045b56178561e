"""Turn a CAM into labels of pixels and of cell pairs during training (ToCo, CVPR 2023).

A valid CAM holds the scores of an image's present classes, and 0 for absent ones. Labels are 0 for
background, k + 1 for class k, and 255 for unknown. A box (top, left, bottom, right) in pixels is the
part of a crop that is image; pixels outside are unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.data.labelmap import IGNORE
from wsss.data.resize import in_boxes
from wsss.refine import par

UNSURE = -1  # label of pixels between background and object
REGION_BACKGROUND, REGION_UNSURE, REGION_OBJECT = 0, 1, 2  # ToCo's regions


@dataclass(frozen=True)
class Thresholds:
    """Scores above `high` are an object, scores up to `low` are background."""

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
    """Return labels (B, H, W); scores between the thresholds get the label `between`."""
    score, best = valid.max(1)
    labels = torch.where(score <= thresholds.high, between, best + 1)
    return torch.where(score <= thresholds.low, 0, labels)


def regions(valid: Tensor, thresholds: Thresholds) -> Tensor:
    """Return ToCo's regions (B, H, W): 0 background, 1 unsure, 2 object; boxes are not used."""
    score = valid.amax(1)
    region = torch.where(score >= thresholds.high, REGION_OBJECT, REGION_UNSURE)
    return torch.where(score <= thresholds.low, REGION_BACKGROUND, region)


def boxed(labels: Tensor, boxes: Tensor) -> Tensor:
    """Set labels (B, H, W) outside their box (B, 4) to 255."""
    height, width = labels.shape[1:]
    return torch.where(in_boxes(boxes, (height, width)), labels, IGNORE)


def cells_of(boxes: Tensor, cell: int) -> Tensor:
    """Return boxes (B, 4) in cells of `cell` pixels: every cell that the image touches."""
    begin = torch.div(boxes[:, :2], cell, rounding_mode="floor")
    end = torch.div(boxes[:, 2:] + cell - 1, cell, rounding_mode="floor")
    return torch.cat((begin, end), 1)


def pairs(labels: Tensor, diagonal: bool = False) -> Tensor:
    """Return 1 for each pair of cells (B, n, n) with equal labels (B, h, w), else 0.

    Pairs with an unknown cell are 255, and those of a cell with itself are unless `diagonal` is set.
    """
    flat = labels.flatten(1)
    alike = (flat[:, :, None] == flat[:, None, :]).long()
    silent = flat == IGNORE
    alike[silent[:, :, None] | silent[:, None, :]] = IGNORE
    if not diagonal:
        alike.diagonal(dim1=1, dim2=2).fill_(IGNORE)
    return alike


def unit_images(images: Tensor, mean: Tensor, std: Tensor, truncate: bool) -> Tensor:
    """Return normalised images (B, 3, H, W) as 8-bit colours over 255.

    mean, std: (3,) for values in [0, 255]. truncate: truncate colours as published, which makes some
    one too small, instead of rounding them.
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
    """Return labels (B, H, W) after PAR; they are 255 where the two background scores disagree.

    images: (B, 3, H, W) in [0, 1]. valid: (B, C, H, W). present: (B, C) of 0 and 1. boxes: (B, 4).
    thresholds: the two background scores. shrink: pixels per cell that PAR refines.
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
    order = ordered(present)
    named = F.pad(order + 1, (1, 0))  # channel 0 is the background
    choices = largest(spread, 2).unbind(1)
    high, low = (named.gather(1, choice.flatten(1)).view_as(choice) for choice in choices)
    silent = torch.where(low == 0, 0, IGNORE)
    return boxed(torch.where(high > 0, high, silent), boxes)


def largest(scores: Tensor, dim: int) -> Tensor:
    """Return the place of the largest score along `dim`, the first of equal ones.

    As `argmax`, which takes five times as long on a processor.
    """
    return scores.max(dim).indices


def ordered(present: Tensor) -> Tensor:
    """Return the present classes of each image, ascending, then absent ones (B, K).

    K is the largest number of present classes in an image.
    """
    most = max(1, int(present.sum(1).max()))
    return present.ne(0).to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]


def _stacked(
    valid: Tensor, present: Tensor, thresholds: Thresholds, size: list[int]
) -> tuple[Tensor, Tensor]:
    """Return a mask of the used channels (B, 1 + K), and scores (B, 2, 1 + K, h, w).

    The first channel is the background, with the high and with the low threshold as its score; the
    others are the maps of `ordered` classes.
    """
    order = ordered(present)
    used = F.pad(present.gather(1, order).ne(0), (1, 0), value=True)
    rows = torch.arange(len(valid), device=valid.device)[:, None]
    maps = F.interpolate(valid[rows, order], size, mode="bilinear", align_corners=False)
    levels = (thresholds.high, thresholds.low)
    planes = [torch.cat((torch.full_like(maps[:, :1], level), maps), 1) for level in levels]
    return used, torch.stack(planes, 1)
