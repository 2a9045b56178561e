"""Cut large images into half-overlapping tiles and merge the tiles' maps (CRT)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pad(images: Tensor, side: int, *, always: bool = False) -> Tensor:
    """Pad images (B, 3, H, W) with zeros on the right and at the bottom until tiles cover them.

    side: of a tile in pixels, even. always: also pad sides that are a multiple of half a tile.
    """
    step = side // 2
    height, width = (
        max((length + (step if always else step - 1)) // step * step, side)
        for length in images.shape[2:]
    )
    return F.pad(images, (0, width - images.shape[3], 0, height - images.shape[2]))


def cut(images: Tensor, side: int) -> Tensor:
    """Return the tiles (B * rows * columns, 3, side, side) of images that `pad` has padded."""
    step = side // 2
    tiles = images.unfold(2, side, step).unfold(3, side, step)  # (B, 3, rows, columns, side, side)
    return tiles.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


def merge(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the maps (B, C, h, w) of images; a cell is the mean over the tiles that contain it.

    maps: one for each tile, in the order of `cut` (B * tiles, C, n, n), n even. grid: cells (h, w) of
    an image.
    """
    channels, side = maps.shape[1], maps.shape[2]
    tiles = (2 * grid[0] // side - 1) * (2 * grid[1] // side - 1)
    columns = maps.reshape(-1, tiles, channels * side**2).transpose(1, 2)
    ones = torch.ones_like(columns[:1, : side**2])

    def summed(values: Tensor) -> Tensor:
        return F.fold(values, grid, side, stride=side // 2)

    return summed(columns) / summed(ones)
