"""Sizes of images: OpenCV's bicubic by a factor, padding, masks of boxes, squares."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from wsss.data.normalisation import Normalisation


def resize_by(images: Tensor, factors: tuple[float, float], size: tuple[int, int]) -> Tensor:
    """Return images (B, C, h, w) at `size`, resized by `factors` of (height, width), bicubic.

    Pixel x samples position (x + 0.5) / factor - 0.5 whatever the size is; a = -0.75. The border is
    repeated outside the image.
    """
    # interpolate() takes a size or factors; the operator under it takes both.
    resized: Tensor = torch.ops.aten.upsample_bicubic2d(images, list(size), False, *factors)
    return resized


def bilinear_by(images: Tensor, factor: float, size: tuple[int, int]) -> Tensor:
    """Return images (B, C, h, w) at `size`, resized by `factor`, bilinear, as in `resize_by`."""
    resized: Tensor = torch.ops.aten.upsample_bilinear2d(images, list(size), False, factor, factor)
    return resized


def pad_to_multiple(images: Tensor, cell: int) -> Tensor:
    """Pad images (B, C, H, W) with zeros at the right and bottom to multiples of `cell` pixels."""
    height, width = images.shape[2:]
    return F.pad(images, (0, -width % cell, 0, -height % cell))


def resize_to_multiple(images: Tensor, cell: int) -> Tensor:
    """Shrink images (B, C, H, W) bilinearly to the next smaller multiples of `cell` pixels, at least one."""
    height, width = (max(cell, side - side % cell) for side in images.shape[2:])
    if (height, width) == tuple(images.shape[2:]):
        return images
    return F.interpolate(images, (height, width), mode="bilinear", align_corners=False)


def in_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return masks (B, H, W) of boxes (B, 4), each (top, left, bottom, right) in pixels."""
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
    """Return a whole image (H, W, 3) as a normalised square (3, side, side), antialiased."""
    return normalise(np.asarray(Image.fromarray(image).resize((side, side), kernel)))
