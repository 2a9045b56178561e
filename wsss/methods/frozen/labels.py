"""Turn spread class maps into labels of pixels and of pairs of cells during training (WeCLIP, ExCEL).

Labels are 0 for background, k + 1 for class k, and 255 for unknown.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.data.labelmap import IGNORE
from wsss.methods.single_stage import online_labels
from wsss.nets.deeplab import resize
from wsss.refine import par


def label_maps(
    images: Tensor, maps: Tensor, present: Tensor, iterations: int, shrink: int = 1
) -> Tensor:
    """Return the labels (B, H, W) of images (B, 3, H, W) after PAR; no pixel is unknown.

    maps: in [0, 1] (B, C, h, w). present: the classes of each image, 0 or 1 (B, C). A pixel is background
    by as much as its best class falls short of 1. iterations: of PAR. shrink: pixels per cell that PAR refines.
    """
    order = online_labels.ordered(present)
    rows = torch.arange(len(maps), device=maps.device)[:, None]
    is_used = present[rows, order] > 0
    size = (images.shape[2], images.shape[3])
    small = (max(1, size[0] // shrink), max(1, size[1] // shrink))
    chosen = resize(maps[rows, order] * is_used[:, :, None, None], small)
    scores = torch.cat([1 - chosen.amax(1, keepdim=True), chosen], 1)
    scores = resize(par.refine(resize(images, small), scores, iterations=iterations), size)
    unused = F.pad(~is_used, (1, 0))
    best = online_labels.largest(scores.masked_fill(unused[:, :, None, None], -torch.inf), 1)
    return F.pad(order + 1, (1, 0)).gather(1, best.flatten(1)).view_as(best)


def windowed_pairs(labels: Tensor, grid: tuple[int, int], reach: int) -> Tensor:
    """Return 1 for each pair of cells (B, n, n) with equal labels, else 0, and 255 for other pairs.

    labels: of pixels (B, H, W); a cell has the label of its upper left pixel. grid: (h, w). reach: largest
    distance of the cells of a pair in rows and in columns.
    """
    cells = F.interpolate(labels[:, None].float(), grid, mode="nearest")[:, 0].long()
    alike = online_labels.pairs(cells, diagonal=True)
    return alike.masked_fill(~window(grid, reach).to(labels.device), IGNORE)


def window(grid: tuple[int, int], reach: int) -> Tensor:
    """Return which pairs of cells (n, n) are at most `reach` rows and columns apart."""
    places = torch.cartesian_prod(*(torch.arange(side) for side in grid))
    return (places[:, None] - places[None]).abs().amax(2) <= reach


def affinity(features: Tensor) -> Tensor:
    """Return the affinity of cells (B, n, n) in (0, 1): the sigmoid of inner products of features (B, D, h, w)."""
    flat = features.flatten(2)
    return (flat.transpose(1, 2) @ flat).sigmoid()


def affinity_loss(affinities: Tensor, pairs: Tensor) -> Tensor:
    """Return the mean error of affinities (B, n, n), half over equal and half over different pairs.

    pairs: of `windowed_pairs`.
    """
    is_equal, is_different = pairs == 1, pairs == 0
    equal = ((1 - affinities) * is_equal).sum() / (is_equal.sum() + 1)
    different = (affinities * is_different).sum() / (is_different.sum() + 1)
    return 0.5 * (equal + different)
