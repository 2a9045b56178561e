"""Random changes of training images: all random numbers are drawn first, then applied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from wsss.data.normalisation import Array, Normalisation
from wsss.settings import AugmentParams
from wsss.training.colour import jitter, shift_hsv, turn_hue
from wsss.training.deit_augment import (
    Box,
    Operation,
    draw_crop,
    draw_erased,
    draw_operations,
    operate,
)

Size = tuple[int, int]  # height, width
Content = tuple[int, int, int, int]  # top, left, bottom, right, in pixels
KERNELS = {"bicubic_plain": "bicubic", "bilinear_plain": "bilinear"}
SMOOTH = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Draws:
    """The random numbers that change one image.

    size: size after scaling, in pixels. factors: factors of brightness, contrast and saturation.
    hue: shift of the hue as a share of the full circle. hsv: steps of hue (of 180), saturation and
    value. top, left: corner of the crop in the scaled image; negative where the image is smaller.
    box: part of the image that is cut out before scaling. operations: RandAugment's. erased: box of
    the crop that is filled with noise from noise_seed.
    """

    size: Size
    mirror: bool = False
    factors: tuple[float, float, float] = (1.0, 1.0, 1.0)
    hue: float = 0.0
    hsv: tuple[int, int, int] = (0, 0, 0)
    top: int = 0
    left: int = 0
    box: Box | None = None
    operations: tuple[Operation, ...] = ()
    erased: Box | None = None
    noise_seed: int = 0


def augment(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8] | None,
    params: AugmentParams,
    normalise: Normalisation,
    generator: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None, Draws]:
    """Return a random normalised crop (3, crop, crop), the crop of the labels, and the draws.

    image: RGB (H, W, 3). mask: labels (H, W), if there are any.
    """
    draws = draw(image.shape[:2], params, generator)
    return *change(image, mask, draws, params, normalise), draws


def draw(size: Size, params: AugmentParams, generator: np.random.Generator) -> Draws:
    """Draw the random numbers for an image of `size`."""
    box = draw_crop(size, params.area, generator) if params.area else None
    if box:
        scaled = (params.crop_px, params.crop_px)
    elif params.square_px:
        scaled = (params.square_px, params.square_px)
    else:
        scaled = scaled_size(size, _factor(size, params, generator), params)
    mirror = bool(params.mirror and generator.random() < 0.5)
    factors, hue, hsv = (1.0, 1.0, 1.0), 0.0, (0, 0, 0)
    if params.jitter:
        low, high = 1 - params.jitter, 1 + params.jitter
        factors = tuple(float(generator.uniform(low, high)) for _ in range(3))  # type: ignore[assignment]
    if params.hue:
        hue = float(generator.uniform(-params.hue, params.hue))
    if params.hsv:
        hsv = tuple(int(v) for v in generator.integers(-params.hsv, params.hsv + 1, 3))  # type: ignore[assignment]
    left, top = (_offset(length, params, generator) for length in reversed(scaled))
    operations = draw_operations(params.rand_augment, generator) if params.rand_augment else ()
    erased, noise_seed = None, 0
    if params.erase and generator.random() < params.erase:
        erased = draw_erased(params.crop_px, generator)
        noise_seed = int(generator.integers(2**31))
    return Draws(scaled, mirror, factors, hue, hsv, top, left, box, operations, erased, noise_seed)


def content(draws: Draws, params: AugmentParams) -> Content:
    """Return the box of the crop that is image, not padding."""
    side, (height, width) = params.crop_px, draws.size
    top, bottom = max(0, -draws.top), min(side, height - draws.top)
    left, right = max(0, -draws.left), min(side, width - draws.left)
    if mirrored_last(draws, params):
        left, right = side - right, side - left
    return top, left, bottom, right


def mirrored_last(draws: Draws, params: AugmentParams) -> bool:
    """Return whether the crop itself is mirrored, not the image before it."""
    return draws.mirror and params.order.index("mirror") > params.order.index("crop")


def _factor(size: Size, params: AugmentParams, generator: np.random.Generator) -> float:
    if params.long_side_px is not None:
        low, high = params.long_side_px
        return int(generator.integers(low, high + 1)) / max(size)
    if params.scales:
        return float(generator.choice(params.scales))
    return float(generator.uniform(*params.scale))


def scaled_size(size: Size, factor: float, params: AugmentParams) -> Size:
    """Return the size of an image after scaling by `factor`."""
    whole = round if params.size_rounding == "round" else int
    return max(1, whole(size[0] * factor)), max(1, whole(size[1] * factor))


def _offset(length: int, params: AugmentParams, generator: np.random.Generator) -> int:
    low, high = sorted((0, length - params.crop_px))
    if params.place == "top_left":
        low = max(low, 0)
    return int(generator.integers(low, high + 1))


def change(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8] | None,
    draws: Draws,
    params: AugmentParams,
    normalise: Normalisation,
) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
    """Return the normalised crop (3, crop, crop) that `draws` describe, and the crop of the labels."""
    picture, labels = changed_pixels(image, mask, draws, params)
    top, left, bottom, right = content(draws, params)
    crop = normalise(picture)
    if params.image_fill == "mean":
        centre = crop[:, top:bottom, left:right].copy()
        crop[:] = 0
        crop[:, top:bottom, left:right] = centre
    if draws.erased:
        _erase(crop, draws, params)
    return crop, labels


def in_8_bits(params: AugmentParams) -> bool:
    """Return whether changed pixels are whole numbers, so that a device can normalise them."""
    return params.interpolation != "bilinear_plain" and not params.erase


def changed_pixels(
    image: NDArray[np.uint8], mask: NDArray[np.uint8] | None, draws: Draws, params: AugmentParams
) -> tuple[Array, NDArray[np.uint8] | None]:
    """Return the crop (crop, crop, 3) that `draws` describe before it is normalised, and of the labels.

    Values are in [0, 255], of 8 bits with every interpolation but `bilinear_plain`. The area outside
    the image is black.
    """
    picture: Array = image
    labels: Array | None = mask
    for step in params.order:
        picture, labels = STEPS[step](picture, labels, draws, params)
    return np.ascontiguousarray(picture), None if labels is None else np.ascontiguousarray(labels)


def _scale(
    picture: Array, labels: Array | None, draws: Draws, params: AugmentParams
) -> tuple[Array, Array | None]:
    if draws.box:
        top, left, height, width = draws.box
        picture = picture[top : top + height, left : left + width]
        labels = None if labels is None else labels[top : top + height, left : left + width]
    if params.interpolation in SMOOTH:
        kernel = SMOOTH[params.interpolation]
        picture = np.asarray(Image.fromarray(picture).resize(draws.size[::-1], kernel))
    else:
        picture = resize_plain(picture, draws.size, KERNELS[params.interpolation])
        if params.interpolation == "bicubic_plain":
            picture = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    return picture, None if labels is None else resize_labels(labels, draws.size, params.label_cell)


def resize_plain(image: Array, size: Size, kernel: str) -> NDArray[np.float32]:
    """Return an image (H, W, C) as float32 at `size`, without antialiasing, as OpenCV does.

    kernel: bilinear or bicubic (with a = -0.75); corners are not aligned.
    """
    source = torch.from_numpy(np.ascontiguousarray(image, np.float32)).permute(2, 0, 1)[None]
    resized = F.interpolate(source, size, mode=kernel, align_corners=False)
    return resized[0].permute(1, 2, 0).numpy()


def resize_labels(labels: Array, size: Size, cell: str) -> Array:
    """Return labels (H, W) at `size`; each takes the old label at its cell's `centre` or `corner`."""
    if cell == "centre":
        return np.asarray(Image.fromarray(labels).resize(size[::-1], Image.Resampling.NEAREST))
    rows, columns = (
        np.arange(new) * old // new for new, old in zip(size, labels.shape, strict=True)
    )
    return np.asarray(labels[rows[:, None], columns])


def _mirror(
    picture: Array, labels: Array | None, draws: Draws, params: AugmentParams
) -> tuple[Array, Array | None]:
    if not draws.mirror:
        return picture, labels
    return picture[:, ::-1], None if labels is None else labels[:, ::-1]


def _colour(
    picture: Array, labels: Array | None, draws: Draws, params: AugmentParams
) -> tuple[Array, Array | None]:
    picture = np.ascontiguousarray(picture)
    if params.jitter:
        picture = jitter(picture, draws.factors)
    if params.hue:
        picture = turn_hue(picture, draws.hue)
    if params.hsv:
        picture = shift_hsv(picture, draws.hsv)
    if draws.operations:
        picture = operate(picture, draws.operations)
    return picture, labels


def _crop(
    picture: Array, labels: Array | None, draws: Draws, params: AugmentParams
) -> tuple[Array, Array | None]:
    """Cut out a square; the area outside the picture is black."""
    side, (height, width) = params.crop_px, picture.shape[:2]
    top, bottom = max(draws.top, 0), min(draws.top + side, height)
    left, right = max(draws.left, 0), min(draws.left + side, width)
    rows = slice(top - draws.top, bottom - draws.top)
    columns = slice(left - draws.left, right - draws.left)
    image = np.zeros((side, side, 3), picture.dtype)
    image[rows, columns] = picture[top:bottom, left:right]
    if labels is None:
        return image, None
    cut = np.full((side, side), params.label_fill, np.uint8)
    cut[rows, columns] = labels[top:bottom, left:right]
    return image, cut


def _erase(crop: NDArray[np.float32], draws: Draws, params: AugmentParams) -> None:
    """Fill the erased box of a normalised crop (3, crop, crop) with noise."""
    if draws.erased is None:
        return
    noise = np.random.default_rng(draws.noise_seed)
    top, left, height, width = draws.erased
    filled = noise.standard_normal((3, height, width), np.float32)
    if mirrored_last(draws, params):
        left, filled = params.crop_px - left - width, filled[:, :, ::-1]
    crop[:, top : top + height, left : left + width] = filled


Step = Callable[[Array, Array | None, Draws, AugmentParams], tuple[Array, Array | None]]
STEPS: dict[str, Step] = {"scale": _scale, "mirror": _mirror, "colour": _colour, "crop": _crop}
