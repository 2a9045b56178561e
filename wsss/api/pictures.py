"""Pictures of labels and class maps over an image, as the panels of a run show them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from wsss.api.arrays import (
    ImageLike,
    check_same_size,
    class_maps,
    image_pixels,
    label_image,
    plain_array,
)


def overlay(image: ImageLike, labels: ArrayLike | Image.Image) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) in pale grey under the colours of a label image (H, W); 255 is white."""
    from wsss.report.figures import panels  # noqa: PLC0415  # heavy

    return panels.overlay(image_pixels(image), label_image(labels))


def heat(image: ImageLike, scores: ArrayLike) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) under a heat map of scores (H, W): 0 is dark, 1 is bright."""
    from wsss.report.figures import panels  # noqa: PLC0415  # heavy

    pixels, values = image_pixels(image), class_maps(plain_array(scores)[None], "scores")
    check_same_size(pixels, values, "image and scores")
    return panels.heat(pixels, values[0])
