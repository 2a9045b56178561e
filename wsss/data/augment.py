"""Random changes of training images, on 8-bit pictures until the last step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from wsss.data.labelmap import IGNORE
from wsss.schema import AugmentParams

Picture = Image.Image


@dataclass(frozen=True)
class Normalisation:
    """What a network wants images to be: (value / 255 - mean) / std for each of RGB."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn an image (H, W, 3) of 8 bits into (3, H, W) float32."""
        mean, std = (np.array(values, np.float32) for values in (self.mean, self.std))
        scaled = (image.astype(np.float32) / np.float32(255) - mean) / std
        return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def augment(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8] | None,
    params: AugmentParams,
    normalise: Normalisation,
    generator: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
    """Return a random crop (3, crop, crop), normalised, and the same crop of the labels.

    Outside the picture the image is 0 after normalisation and the labels are 255.
    """
    picture, labels = Image.fromarray(image), None if mask is None else Image.fromarray(mask)
    size = _new_size(picture.size, params, generator)
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    labels = labels and labels.resize(size, Image.Resampling.NEAREST)
    if params.mirror and generator.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        labels = labels and labels.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture = _jitter(picture, params.jitter, generator)
    return _crop(picture, labels, params.crop_px, normalise, generator)


def _new_size(
    size: tuple[int, int], params: AugmentParams, generator: np.random.Generator
) -> tuple[int, int]:
    if params.long_side_px is not None:
        low, high = params.long_side_px
        factor = int(generator.integers(low, high + 1)) / max(size)
    else:
        factor = float(generator.uniform(*params.scale))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _jitter(picture: Picture, strength: float, generator: np.random.Generator) -> Picture:
    if not strength:
        return picture
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(float(generator.uniform(1 - strength, 1 + strength)))
    return picture


def _crop(
    picture: Picture,
    labels: Picture | None,
    side: int,
    normalise: Normalisation,
    generator: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
    """Cut a square at random; a smaller picture stands at a random place in it."""
    width, height = picture.size
    left, top = (_offset(length, side, generator) for length in (width, height))
    inside = (max(left, 0), max(top, 0), min(left + side, width), min(top + side, height))
    rows = slice(inside[1] - top, inside[3] - top)
    columns = slice(inside[0] - left, inside[2] - left)
    image = np.zeros((3, side, side), np.float32)
    image[:, rows, columns] = normalise(np.asarray(picture.crop(inside)))
    if labels is None:
        return image, None
    cut: NDArray[Any] = np.full((side, side), IGNORE, np.uint8)
    cut[rows, columns] = np.asarray(labels.crop(inside))
    return image, cut


def _offset(length: int, side: int, generator: np.random.Generator) -> int:
    low, high = sorted((0, length - side))
    return int(generator.integers(low, high + 1))
