"""Large images as square tiles that overlap by half, and the maps of tiles as those of images (CRT)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pad(images: Tensor, side: int, *, always: bool = False) -> Tensor:
    """Return images (B, 3, H, W) with zeros at the right and below, so that tiles cover them.

    side: of a tile, even. always: a side that already is a multiple of half a tile grows too.
    """
    step = side // 2
    wanted = (
        max((length + (step if always else step - 1)) // step * step, side)
        for length in images.shape[2:]
    )
    height, width = wanted
    return F.pad(images, (0, width - images.shape[3], 0, height - images.shape[2]))


def cut(images: Tensor, side: int) -> Tensor:
    """Return the tiles (B * rows * columns, 3, side, side) of images that `pad` has prepared."""
    step = side // 2
    tiles = images.unfold(2, side, step).unfold(3, side, step)  # (B, 3, rows, columns, side, side)
    return tiles.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


def merge(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the maps (B, C, h, w) of images of `grid` (h, w) cells: means over the tiles of a cell.

    maps: of the tiles in the order of `cut` (B * tiles, C, n, n), n even.
    """
    channels, side = maps.shape[1], maps.shape[2]
    tiles = (2 * grid[0] // side - 1) * (2 * grid[1] // side - 1)
    columns = maps.reshape(-1, tiles, channels * side**2).transpose(1, 2)
    ones = torch.ones_like(columns[:1, : side**2])

    def joined(values: Tensor) -> Tensor:
        return F.fold(values, grid, side, stride=side // 2)

    return joined(columns) / joined(ones)
