"""From whatever holds numbers or pixels (lists, NumPy, PyTorch, Pillow) to the arrays of the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from wsss.data.images import load_image, picture_pixels
from wsss.errors import DatasetError

# An image: a file, a picture of Pillow, or pixels (H, W, 3), (3, H, W) or grey (H, W).
ImageLike = ArrayLike | Image.Image | Path
CHANNELS = 3


def plain_array(values: object) -> NDArray[Any]:
    """Return values as a NumPy array; a PyTorch tensor may be on a GPU and may have a gradient.

    Raises:
        DatasetError: the values do not form an array of numbers.
    """
    tensor: Any = values.detach().cpu() if hasattr(values, "detach") else None
    try:
        if tensor is None:
            array = np.asarray(values)
        else:  # NumPy has no bfloat16
            is_wide = str(tensor.dtype) != "torch.bfloat16"
            array = tensor.numpy() if is_wide else tensor.float().numpy()
    except ValueError as error:
        raise DatasetError(f"The values do not form an array: {error}.") from None
    if array.dtype.kind not in "biuf":
        raise DatasetError(f"{_named(values)} holds {array.dtype}. Give an array of numbers.")
    return array


def _named(values: object) -> str:
    return f"A value of type {type(values).__name__}"


def image_pixels(image: ImageLike) -> NDArray[np.uint8]:
    """Return an image as 8-bit RGB (H, W, 3), contiguous and writable.

    Floats in [0, 1] are multiplied by 255; floats up to 255 are rounded. Four channels are RGBA, whose
    transparency is laid on white.

    Raises:
        DatasetError: it is not an image, or its values are not those of pixels.
    """
    if isinstance(image, str | Path):
        return load_image(Path(image).expanduser())
    if isinstance(image, Image.Image):
        return picture_pixels(image)
    pixels = _eight_bits(plain_array(image))
    if pixels.ndim == 3 and pixels.shape[0] == CHANNELS and pixels.shape[2] not in (3, 4):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    is_grey = pixels.ndim == 2
    if not pixels.size or not (is_grey or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise DatasetError(
            f"An array of shape {pixels.shape} is not an image. Give RGB pixels (height, width, 3)."
        )
    return picture_pixels(Image.fromarray(np.ascontiguousarray(pixels)))


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    if not (low >= 0 and high <= 255):  # also for nan
        raise DatasetError(
            f"An image has values from {low:g} to {high:g}. Give pixels from 0 to 255, or floats from "
            "0 to 1, before any normalisation."
        )
    scale = 255 if values.dtype.kind in "bf" and high <= 1 else 1
    return np.asarray((values * scale).round(), np.uint8)


def label_image(labels: ArrayLike | Image.Image, name: str = "labels") -> NDArray[np.uint8]:
    """Return a label image (H, W) of 0 (background) to 254, and 255 (no label). name: for messages.

    Raises:
        DatasetError: it has another shape, or values that are no labels.
    """
    values = plain_array(labels)
    if values.ndim != 2:
        raise DatasetError(
            f"{name} has the shape {values.shape}. Give one label per pixel, (height, width)."
        )
    whole = values.astype(np.uint8) if _fits_labels(values) else None
    if whole is None or (whole != values).any():
        raise DatasetError(f"{name} holds values that are no whole numbers from 0 to 255.")
    return whole


def _fits_labels(values: NDArray[Any]) -> bool:
    return not values.size or bool(values.min() >= 0 and values.max() <= 255)


def class_maps(maps: ArrayLike, name: str = "maps") -> NDArray[np.float32]:
    """Return maps (K, h, w) as float32, contiguous and writable. name: for messages.

    Raises:
        DatasetError: they have another shape, or values that are not finite.
    """
    values = np.require(plain_array(maps), np.float32, ("C", "W"))
    if values.ndim != 3:
        raise DatasetError(
            f"{name} has the shape {values.shape}. Give one map for each class, (classes, height, width)."
        )
    if not np.isfinite(values).all():
        raise DatasetError(f"{name} holds values that are not finite. Replace them by numbers.")
    return values


def check_same_size(first: NDArray[Any], second: NDArray[Any], names: str) -> None:
    """Raise a `DatasetError` unless two arrays have one height and width. names: for the message.

    The shapes are compared in the order (H, W) of an image (H, W, 3), maps (K, H, W) or labels (H, W).
    """
    if _size(first) != _size(second):
        raise DatasetError(
            f"{names} differ in size: {_size(first)} and {_size(second)}. Bring them to one size."
        )


def _size(array: NDArray[Any]) -> tuple[int, ...]:
    is_image = array.ndim == 3 and array.dtype == np.uint8
    return array.shape[:2] if is_image else array.shape[-2:]
