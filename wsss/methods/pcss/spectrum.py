"""Fourier transforms of images and features for PCSS (Kwon et al., ECCV 2024).

Maps of frequencies (..., h, w) that cross a function boundary are shifted, with frequency zero at
[h // 2, w // 2].
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Block = tuple[int, int]  # row and column


def mixed_magnitude(features: Tensor, order: Tensor, keep: float) -> Tensor:
    """Mix the magnitudes of features (B, D, h, w) with the magnitudes of other images.

    order: index of the image that each image is mixed with (B,), which gets no gradient. keep: share
    of an image's own magnitude. Returns half a spectrum (B, D, h, w // 2 + 1), as `torch.fft.rfft2`.
    """
    magnitude = torch.fft.rfft2(features.float()).abs()
    mixed: Tensor = keep * magnitude + (1 - keep) * magnitude.detach()[order]
    return mixed


def with_magnitude(features: Tensor, magnitude: Tensor) -> Tensor:
    """Return features (B, D, h, w) with unchanged phase and another magnitude.

    magnitude: half a spectrum, as `mixed_magnitude` returns it.
    """
    phase = torch.fft.rfft2(features.float()).angle()
    size = (features.shape[2], features.shape[3])
    mixed: Tensor = torch.fft.irfft2(torch.polar(magnitude, phase), s=size)
    return mixed.to(features.dtype)


def removed_blocks(row: int, column: int, count: int) -> list[Block]:
    """Return the blocks that are removed together, among count x count.

    The second block mirrors the block's index. The mirrored frequencies lie one block further, so most
    frequencies are halved instead of removed, as in the published code.
    """
    if column == 0:
        return [(row, 0)]
    mirror = (0 if row == 0 else count - row, count - column)
    return [(row, column)] if mirror == (row, column) else [(row, column), mirror]


@functools.cache
def block_sets(count: int) -> tuple[tuple[Block, ...], ...]:
    """Return the different sets of removed blocks, in the order of rows, then columns."""
    rows, columns = range(count), range(count // 2 + 1)
    sets = (tuple(sorted(removed_blocks(r, c, count))) for r in rows for c in columns)
    return tuple(dict.fromkeys(sets))


def block_keep(blocks: Sequence[Block], count: int, side: int) -> Tensor:
    """Return the map (side, side) that is 0 in the given blocks among count x count, else 1."""
    grid = torch.ones(count, count)
    for row, column in blocks:
        grid[row, column] = 0.0
    cells = torch.arange(side) * count // side
    return grid[cells][:, cells]


def damped(spectra: Tensor, keep: Tensor, side: int) -> Tensor:
    """Return the real part of square images (..., side, side) with frequencies multiplied by `keep`.

    spectra: half spectra of images, from `torch.fft.rfft2` (..., side, side // 2 + 1). keep: shifted
    (..., side, side).
    """
    keep = torch.fft.ifftshift(keep, dim=(-2, -1))
    # Averaging each factor with its mirror's is the same as taking the real part of the result.
    mirrored = keep.flip(-2, -1).roll((1, 1), (-2, -1))
    half = ((keep + mirrored) / 2)[..., : side // 2 + 1]
    images: Tensor = torch.fft.irfft2(spectra * half, s=(side, side))
    return images


def suppressed(images: Tensor, labels: Tensor, influence: Tensor) -> Tensor:
    """Return square images (B, 3, s, s) without the frequencies that their classes depend on.

    labels: 0 or 1 (B, C). influence: of each frequency on each class, in [0, 1] (C, s, s). For an image
    of several classes, the factors of its classes are averaged; an image without labels stays unchanged.
    """
    present = labels.sum(1)
    shares = labels / present.clamp(min=1)[:, None]
    keep = torch.einsum("bc,chw->bhw", shares, 1 - influence)
    side = images.shape[-1]
    changed = damped(torch.fft.rfft2(images.float()), keep[:, None], side)
    return torch.where((present > 0)[:, None, None, None], changed, images)


def influence_map(losses: Tensor, record: Tensor, side: int) -> Tensor:
    """Return the influence of each frequency on each class, in [0, 1] (C, side, side).

    losses: of each class without each block (C, n, n). record: the largest interpolated loss of each
    class in all measurements (C,). The influence on classes that were never measured is 0.
    """
    large = enlarged(losses, side)
    low = large.amin((1, 2), keepdim=True)
    span = record[:, None, None] - low
    return torch.where(span > 0, (large - low) / span.clamp(min=1e-20), torch.zeros(()).to(large))


def enlarged(losses: Tensor, side: int) -> Tensor:
    """Resize maps (C, n, n) to (C, side, side), bicubic."""
    return F.interpolate(losses[None], (side, side), mode="bicubic", align_corners=False)[0]
