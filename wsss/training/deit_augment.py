"""DeiT's changes of training images, as in timm 0.6: resized crops, RandAugment, erased boxes.

All random numbers are drawn first, then applied. RandAugment is timm's `rand-m9-mstd0.5-inc1`: two
operations, each applied every second time, of the set in which a larger magnitude changes more.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

Box = tuple[int, int, int, int]  # top, left, height, width
Operation = tuple[str, float]  # name and signed magnitude, 0 to 10

TRIES = 10  # draws of a box before giving up
ASPECT = (3 / 4, 4 / 3)  # of a crop
ERASED_AREA, ERASED_ASPECT = (0.02, 1 / 3), (0.3, 1 / 0.3)  # of an erased box
COUNT, SHARE = 2, 0.5  # operations drawn for an image, and the probability that each is applied
SPREAD, LARGEST = 0.5, 10.0  # standard deviation and maximum of the magnitude
FILL = (124, 116, 104)  # colour of the area that a shift or turn leaves empty: ImageNet's mean


def draw_crop(
    size: tuple[int, int], area: tuple[float, float], generator: np.random.Generator
) -> Box:
    """Return a random box of an image of `size` (h, w); `area` is the range of its share of the image.

    If ten draws do not fit, it is the largest centred box with an aspect in [3/4, 4/3].
    """
    height, width = size
    for _ in range(TRIES):
        pixels, ratio = _area_and_aspect(size, area, ASPECT, generator)
        across, down = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < across <= width and 0 < down <= height:
            top = int(generator.integers(0, height - down + 1))
            return top, int(generator.integers(0, width - across + 1)), down, across
    across = min(width, round(height * ASPECT[1]))
    down = min(height, round(width / ASPECT[0]))
    return (height - down) // 2, (width - across) // 2, down, across


def _area_and_aspect(
    size: tuple[int, int],
    area: tuple[float, float],
    aspect: tuple[float, float],
    generator: np.random.Generator,
) -> tuple[float, float]:
    share = generator.uniform(*area)
    ratio = math.exp(generator.uniform(math.log(aspect[0]), math.log(aspect[1])))
    return share * size[0] * size[1], ratio


def draw_erased(side: int, generator: np.random.Generator) -> Box | None:
    """Return a random box of a square image to fill with noise; None if ten draws do not fit."""
    for _ in range(TRIES):
        pixels, ratio = _area_and_aspect((side, side), ERASED_AREA, ERASED_ASPECT, generator)
        down, across = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if across < side and down < side:
            top = int(generator.integers(0, side - down + 1))
            return top, int(generator.integers(0, side - across + 1)), down, across
    return None


def draw_operations(magnitude: float, generator: np.random.Generator) -> tuple[Operation, ...]:
    """Draw the operations of an image, with repetition; magnitudes are normal around `magnitude`."""
    names = list(OPERATIONS)
    operations = []
    for name in generator.choice(names, COUNT):
        level = float(np.clip(generator.normal(magnitude, SPREAD), 0, LARGEST))
        sign = 1.0 if generator.random() < 0.5 else -1.0
        if generator.random() < SHARE:
            operations.append((str(name), sign * level))
    return tuple(operations)


def operate(picture: NDArray[np.uint8], operations: tuple[Operation, ...]) -> NDArray[np.uint8]:
    """Return a picture (h, w, 3) of 8 bits after the operations, applied in order."""
    image = Image.fromarray(picture)
    for name, level in operations:
        image = OPERATIONS[name](image, level)
    return np.asarray(image)


def _moved(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        matrix,
        resample=Image.Resampling.BICUBIC,
        fillcolor=FILL,
    )


def _rotate(image: Image.Image, level: float) -> Image.Image:
    degrees = level / LARGEST * 30
    return image.rotate(degrees, resample=Image.Resampling.BICUBIC, fillcolor=FILL)


def _solarize_add(image: Image.Image, level: float) -> Image.Image:
    added = min(128, int(abs(level) / LARGEST * 110))
    table = [min(255, value + added) if value < 128 else value for value in range(256)]
    return image.point(table * 3)


def _posterize(image: Image.Image, level: float) -> Image.Image:
    # no bits at all is black, which Pillow's function refuses
    bits = 4 - int(abs(level) / LARGEST * 4)
    return image.point([value & ~(2 ** (8 - bits) - 1) for value in range(256)] * 3)


def _enhanced(
    kind: Callable[[Image.Image], ImageEnhance._Enhance],
) -> Callable[[Image.Image, float], Image.Image]:
    def apply(image: Image.Image, level: float) -> Image.Image:
        factor = max(0.1, 1 + level / LARGEST * 0.9)
        return kind(image).enhance(factor)

    return apply


OPERATIONS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "auto_contrast": lambda image, level: ImageOps.autocontrast(image),
    "equalize": lambda image, level: ImageOps.equalize(image),
    "invert": lambda image, level: ImageOps.invert(image),
    "rotate": _rotate,
    "posterize": _posterize,
    "solarize": lambda i, level: ImageOps.solarize(i, 256 - int(abs(level) / LARGEST * 256)),
    "solarize_add": _solarize_add,
    "color": _enhanced(ImageEnhance.Color),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
    "shear_x": lambda image, level: _moved(image, (1, level / LARGEST * 0.3, 0, 0, 1, 0)),
    "shear_y": lambda image, level: _moved(image, (1, 0, 0, level / LARGEST * 0.3, 1, 0)),
    "translate_x": lambda i, level: _moved(i, (1, 0, level / LARGEST * 0.45 * i.width, 0, 1, 0)),
    "translate_y": lambda i, level: _moved(i, (1, 0, 0, 0, 1, level / LARGEST * 0.45 * i.height)),
}
