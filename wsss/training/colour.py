"""Changes of the colours of 8-bit RGB images (H, W, 3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

Picture = NDArray[np.uint8]
Channel = NDArray[np.int64]  # of hue, saturation or value (H, W)


def jitter(image: Picture, factors: tuple[float, float, float]) -> Picture:
    """Multiply brightness, contrast and saturation, in this order; 1 changes nothing."""
    picture = Image.fromarray(image)
    kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for kind, factor in zip(kinds, factors, strict=True):
        picture = kind(picture).enhance(factor)
    return np.asarray(picture)


def turn_hue(image: Picture, turn: float) -> Picture:
    """Shift the hue by `turn`, a share of the full circle, in Pillow's 256 steps as torchvision does."""
    shifted = [(hue + int(turn * 255)) % 256 for hue in range(256)]
    unchanged = list(range(256))
    turned = Image.fromarray(image).convert("HSV").point(shifted + unchanged + unchanged)
    return np.asarray(turned.convert("RGB"))


def shift_hsv(image: Picture, shifts: tuple[int, int, int]) -> Picture:
    """Add steps to hue (modulo 180), saturation and value (both clipped to 0..255)."""
    hue, saturation, value = to_hsv(image)
    hue = (hue + shifts[0]) % 180
    saturation = np.clip(saturation + shifts[1], 0, 255)
    return from_hsv(hue, saturation, np.clip(value + shifts[2], 0, 255))


def to_hsv(image: Picture) -> tuple[Channel, Channel, Channel]:
    """Return hue in 0..179, saturation and value in 0..255, integers as OpenCV's to within one."""
    red, green, blue = image.astype(np.float64).transpose(2, 0, 1)
    value = image.max(2).astype(np.float64)
    spread = value - image.min(2)
    some = np.where(spread == 0, 1.0, spread)
    sector = np.select(
        [value == red, value == green],
        [(green - blue) / some, 2 + (blue - red) / some],
        4 + (red - green) / some,
    )
    hue = np.rint(30 * np.where(spread == 0, 0.0, sector)) % 180
    saturation = np.rint(255 * spread / np.where(value == 0, 1.0, value))
    return hue.astype(np.int64), saturation.astype(np.int64), value.astype(np.int64)


def from_hsv(hue: Channel, saturation: Channel, value: Channel) -> Picture:
    """Return the RGB image (H, W, 3) of hue in 0..179, saturation and value in 0..255, each (H, W)."""
    channels = []
    for offset in (5, 3, 1):  # red, green, blue: the hue reduces each of them from the value
        place = (offset + hue / 30) % 6
        share = np.clip(np.minimum(place, 4 - place), 0, 1)
        channels.append(np.rint(value * (1 - saturation / 255 * share)))
    return np.stack(channels, 2).astype(np.uint8)
