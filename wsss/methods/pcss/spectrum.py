"""Images and features by frequency: mixed magnitudes, blocks of frequencies, damped frequencies.

For PCSS (Kwon et al., ECCV 2024). Maps of frequencies (..., h, w) that cross a function boundary are
shifted, with frequency zero at [h // 2, w // 2].
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Block = tuple[int, int]  # row and column


def mixed_magnitude(features: Tensor, order: Tensor, keep: float) -> Tensor:
    """Return the magnitudes of features (B, D, h, w), mixed with those of other images.

    order: which image each is mixed with (B,); no gradient goes there. keep: the share of the own.
    Half a spectrum (B, D, h, w // 2 + 1), as of `torch.fft.rfft2`.
    """
    magnitude = torch.fft.rfft2(features.float()).abs()
    mixed: Tensor = keep * magnitude + (1 - keep) * magnitude.detach()[order]
    return mixed


def with_magnitude(features: Tensor, magnitude: Tensor) -> Tensor:
    """Return features (B, D, h, w) with their own phase and another magnitude.

    magnitude: half a spectrum, as `mixed_magnitude` returns it.
    """
    phase = torch.fft.rfft2(features.float()).angle()
    size = (features.shape[2], features.shape[3])
    mixed: Tensor = torch.fft.irfft2(torch.polar(magnitude, phase), s=size)
    return mixed.to(features.dtype)


def removed_blocks(row: int, column: int, count: int) -> list[Block]:
    """Return the blocks that are removed together, among count x count.

    The partner mirrors the number of the block and not its frequencies, which are one block further:
    most frequencies are therefore halved and not removed. Published so.
    """
    if column == 0:
        return [(row, 0)]
    partner = (0 if row == 0 else count - row, count - column)
    return [(row, column)] if partner == (row, column) else [(row, column), partner]


@functools.cache
def block_sets(count: int) -> tuple[tuple[Block, ...], ...]:
    """Return the different sets of blocks that are removed, in the order of rows, then columns."""
    rows, columns = range(count), range(count // 2 + 1)
    found = (tuple(sorted(removed_blocks(r, c, count))) for r in rows for c in columns)
    return tuple(dict.fromkeys(found))


def block_keep(blocks: Sequence[Block], count: int, side: int) -> Tensor:
    """Return the map (side, side) that is 0 in the given blocks among count x count, else 1."""
    grid = torch.ones(count, count)
    for row, column in blocks:
        grid[row, column] = 0.0
    cells = torch.arange(side) * count // side
    return grid[cells][:, cells]


def damped(spectra: Tensor, keep: Tensor, side: int) -> Tensor:
    """Return square images whose frequencies are multiplied by `keep`; the real part of the result.

    spectra: of images, from `torch.fft.rfft2` (..., side, side // 2 + 1). keep: (..., side, side).
    """
    keep = torch.fft.ifftshift(keep, dim=(-2, -1))
    # The real part is what is left if each frequency gets the mean of its own and its mirror's value.
    mirrored = keep.flip(-2, -1).roll((1, 1), (-2, -1))
    half = ((keep + mirrored) / 2)[..., : side // 2 + 1]
    found: Tensor = torch.fft.irfft2(spectra * half, s=(side, side))
    return found


def suppressed(images: Tensor, labels: Tensor, influence: Tensor) -> Tensor:
    """Return square images (B, 3, s, s) without the frequencies that their classes depend on.

    labels: 0 or 1 (B, C). influence: of each frequency on each class, in [0, 1] (C, s, s). An image of
    several classes keeps the mean of what they leave; one without labels stays as it is.
    """
    present = labels.sum(1)
    shares = labels / present.clamp(min=1)[:, None]
    keep = torch.einsum("bc,chw->bhw", shares, 1 - influence)
    side = images.shape[-1]
    found = damped(torch.fft.rfft2(images.float()), keep[:, None], side)
    return torch.where((present > 0)[:, None, None, None], found, images)


def influence_map(losses: Tensor, record: Tensor, side: int) -> Tensor:
    """Return how much each class depends on each frequency, in [0, 1] (C, side, side).

    losses: by class and block, without the block (C, n, n). record: the largest interpolated loss of
    each class in all rounds (C,). Classes that were never measured depend on nothing.
    """
    large = enlarged(losses, side)
    low = large.amin((1, 2), keepdim=True)
    span = record[:, None, None] - low
    return torch.where(span > 0, (large - low) / span.clamp(min=1e-20), torch.zeros(()).to(large))


def enlarged(losses: Tensor, side: int) -> Tensor:
    """Return maps (C, n, n) at (C, side, side), bicubic."""
    return F.interpolate(losses[None], (side, side), mode="bicubic", align_corners=False)[0]
