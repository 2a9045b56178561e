"""Drawn textures: noise of several scales in random colours, and the light on objects."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Size = tuple[int, int]
OCTAVES = (3, 7, 17)  # cells along a side; coarse noise is the strongest
PALE, COLOURFUL = (0.05, 0.35), (0.25, 0.75)  # ranges of saturation
GRAIN = 6.0  # standard deviation of the noise of single pixels, in grey levels


def noise(generator: np.random.Generator, size: Size) -> NDArray[np.float32]:
    """Return smooth noise of several scales (H, W) in [0, 1]."""
    total = np.zeros(size, np.float32)
    for cells in OCTAVES:
        coarse = generator.random((cells, cells), np.float32)
        smooth = Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)
        total += np.asarray(smooth) / cells
    low, high = float(total.min()), float(total.max())
    return np.asarray((total - low) / max(high - low, 1e-6), np.float32)


def gradient(generator: np.random.Generator, size: Size) -> NDArray[np.float32]:
    """Return a ramp in a random direction (H, W) in [0, 1]."""
    angle = generator.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[0 : 1 : complex(size[0]), 0 : 1 : complex(size[1])]
    ramp = np.cos(angle) * (columns - 0.5) + np.sin(angle) * (rows - 0.5)
    return np.asarray(ramp / 1.5 + 0.5, np.float32)


def colour(
    generator: np.random.Generator, saturation: tuple[float, float] = COLOURFUL
) -> NDArray[np.float32]:
    """Return a random colour (3,) in 0..255, neither black nor white."""
    red, green, blue = colorsys.hsv_to_rgb(
        generator.random(), generator.uniform(*saturation), generator.uniform(0.35, 0.95)
    )
    return np.array([red, green, blue], np.float32) * 255


def background(generator: np.random.Generator, size: Size) -> NDArray[np.float32]:
    """Return a textured background (H, W, 3) in 0..255; its colours are paler than those of objects."""
    share = (0.65 * noise(generator, size) + 0.35 * gradient(generator, size))[..., None]
    mixed = share * colour(generator, PALE) + (1 - share) * colour(generator, PALE)
    return (mixed + generator.normal(0, GRAIN, (*size, 3))).astype(np.float32)


def light(generator: np.random.Generator, size: Size) -> NDArray[np.float32]:
    """Return uneven light (H, W, 1): factors around 1 for the colours of an object."""
    return (0.75 + 0.45 * noise(generator, size)[..., None]).astype(np.float32)


def to_bytes(canvas: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round a canvas (H, W, 3) to 8 bits."""
    return np.asarray(np.clip(canvas + 0.5, 0, 255), np.uint8)
