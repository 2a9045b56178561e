"""Bicubic resizing by a factor, as OpenCV does and as published position tables are resized."""

from __future__ import annotations

import torch
from torch import Tensor


def resize_by(images: Tensor, factors: tuple[float, float], size: tuple[int, int]) -> Tensor:
    """Return images (B, C, h, w) at `size`, bicubic by exactly `factors` of (height, width).

    Pixel x looks at (x + 0.5) / factor - 0.5, even if the size is not that multiple; a = -0.75.
    Outside the image its border is repeated.
    """
    # interpolate() takes a size or factors; the operator under it takes both.
    found: Tensor = torch.ops.aten.upsample_bicubic2d(images, list(size), False, *factors)
    return found
