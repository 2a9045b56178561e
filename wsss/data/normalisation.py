"""What a network expects of an image's values, and the way back to 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Normalisation:
    """What a network wants images to be: (value / unit - mean) / std for each of RGB.

    bgr: blue comes first, in the result and in mean and std.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    unit: float = 255.0
    bgr: bool = False

    def __call__(self, image: Array) -> NDArray[np.float32]:
        """Turn an RGB image (H, W, 3) of values in [0, 255] into (3, H, W) float32."""
        mean, std = (np.array(values, np.float32) for values in (self.mean, self.std))
        ordered = image[..., ::-1] if self.bgr else image
        scaled = (ordered.astype(np.float32) / np.float32(self.unit) - mean) / std
        return np.ascontiguousarray(scaled.transpose(2, 0, 1))

    def undo(self, image: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the RGB image (H, W, 3) of a normalised one (3, H, W), cut to whole values."""
        mean, std = (np.array(values, np.float32) for values in (self.mean, self.std))
        values = (image.transpose(1, 2, 0) * std + mean) * np.float32(self.unit)
        ordered = values[..., ::-1] if self.bgr else values
        found: NDArray[np.uint8] = np.clip(ordered, 0, 255).astype(np.uint8)
        return found
