"""Normalisation of images for a network, and back to 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Normalisation:
    """The normalisation (value / unit - mean) / std of each channel.

    bgr: the channels of the result, of mean and of std are in the order blue, green, red.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    unit: float = 255.0
    bgr: bool = False

    def __call__(self, image: Array) -> NDArray[np.float32]:
        """Return an RGB image (H, W, 3) of values in [0, 255] normalised, float32 (3, H, W)."""
        mean, std = (np.array(values, np.float32) for values in (self.mean, self.std))
        ordered = image[..., ::-1] if self.bgr else image
        scaled = (ordered.astype(np.float32) / np.float32(self.unit) - mean) / std
        return np.ascontiguousarray(scaled.transpose(2, 0, 1))

    def undo(self, image: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the 8-bit RGB image (H, W, 3) of a normalised one (3, H, W), values rounded down."""
        mean, std = (np.array(values, np.float32) for values in (self.mean, self.std))
        values = (image.transpose(1, 2, 0) * std + mean) * np.float32(self.unit)
        ordered = values[..., ::-1] if self.bgr else values
        return np.asarray(np.clip(ordered, 0, 255).astype(np.uint8))
