"""Images from whatever holds pixels."""

import numpy as np
import pytest
import torch
from PIL import Image

from wsss.api.arrays import image_pixels
from wsss.errors import DatasetError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        PIXELS,
        PIXELS.tolist(),
        PIXELS / 255,
        PIXELS.astype(np.float32),
        PIXELS.transpose(2, 0, 1),
        torch.from_numpy(PIXELS),
        torch.from_numpy(PIXELS).permute(2, 0, 1).bfloat16(),
        Image.fromarray(PIXELS),
        np.dstack([PIXELS, np.full((5, 7), 255, np.uint8)]),
        Image.fromarray(PIXELS).convert("RGBA"),
    ],
)
def test_an_image_is_rgb_of_eight_bits(image: object) -> None:
    pixels = image_pixels(image)
    np.testing.assert_array_equal(pixels, PIXELS)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


def test_grey_images_have_three_equal_channels() -> None:
    grey = PIXELS[..., 0]
    for image in (grey, grey[..., None], grey[None].transpose(1, 2, 0), Image.fromarray(grey)):
        np.testing.assert_array_equal(image_pixels(image), np.repeat(grey[..., None], 3, 2))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (PIXELS - 200.0, "before any normalisation"),
        (PIXELS * 300.0, "values from"),
        (np.full((4, 4, 3), np.nan), "values from nan"),
        (np.zeros((4, 4, 5)), r"shape \(4, 4, 5\) is not an image"),
        (np.zeros(0), "is not an image"),
        (None, "NoneType holds object"),
        ("missing.png", "missing.png is missing"),
    ],
)
def test_what_is_no_image_is_one_line(image: object, message: str) -> None:
    from wsss.errors import WsssError

    with pytest.raises(WsssError, match=message) as caught:
        image_pixels(image)
    assert isinstance(caught.value, DatasetError) or image == "missing.png"
    assert "\n" not in str(caught.value)
