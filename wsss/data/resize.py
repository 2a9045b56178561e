"""Sizes of batches of images: bicubic by a factor, as OpenCV does, whole cells, boxes in them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from wsss.data.normalisation import Normalisation


def resize_by(images: Tensor, factors: tuple[float, float], size: tuple[int, int]) -> Tensor:
    """Return images (B, C, h, w) at `size`, bicubic by exactly `factors` of (height, width).

    Pixel x looks at (x + 0.5) / factor - 0.5, even if the size is not that multiple; a = -0.75.
    Outside the image its border is repeated.
    """
    # interpolate() takes a size or factors; the operator under it takes both.
    found: Tensor = torch.ops.aten.upsample_bicubic2d(images, list(size), False, *factors)
    return found


def pad_to_multiple(images: Tensor, cell: int) -> Tensor:
    """Return images (B, C, H, W) with zeros at the right and below, up to multiples of `cell`."""
    height, width = images.shape[2:]
    return F.pad(images, (0, -width % cell, 0, -height % cell))


def in_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return whether each place (B, H, W) lies in its box; boxes: top, left, bottom, right (B, 4)."""
    rows, columns = (torch.arange(length, device=boxes.device) for length in size)
    top, left, bottom, right = boxes.unbind(1)
    tall = (rows >= top[:, None]) & (rows < bottom[:, None])
    wide = (columns >= left[:, None]) & (columns < right[:, None])
    return tall[:, :, None] & wide[:, None, :]


def squash(
    image: NDArray[np.uint8],
    side: int,
    normalise: Normalisation,
    kernel: Image.Resampling = Image.Resampling.BILINEAR,
) -> NDArray[np.float32]:
    """Return a whole image (3, side, side), smoothed and normalised; its aspect is lost."""
    return normalise(np.asarray(Image.fromarray(image).resize((side, side), kernel)))
