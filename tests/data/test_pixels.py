"""Images of 8 bits on the device: their values are those of NumPy and Pillow."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from wsss.data.normalisation import Normalisation
from wsss.data.pixels import normalised, resized
from wsss.nets.backbone import IMAGENET

NORMALISATIONS = (
    Normalisation(*IMAGENET),
    Normalisation((104.008, 116.669, 122.675), (1.0, 1.0, 1.0), 1.0, bgr=True),
)


def images() -> list[NDArray[np.uint8]]:
    """Return noise, black and white noise, and a smooth image, the hardest and the usual cases."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (75, 101, 3)).astype(np.uint8)
    coarse = Image.fromarray(noise[:9, :12]).resize((120, 90), Image.Resampling.BICUBIC)
    return [noise, (noise > 127).astype(np.uint8) * 255, np.array(coarse)]


@pytest.mark.parametrize("normalise", NORMALISATIONS)
def test_all_values_are_normalised_to_the_same_bits(normalise: Normalisation) -> None:
    values = np.arange(256, dtype=np.uint8)
    image = np.stack([values, values[::-1], np.roll(values, 100)], 1).reshape(16, 16, 3)
    batch = normalised(torch.from_numpy(np.stack([image, image[::-1]])), normalise)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(batch[0].numpy(), normalise(image))
    assert np.array_equal(batch[1].numpy(), normalise(image[::-1]))


@pytest.mark.parametrize("scale", [0.25, 0.5, 0.77, 1.25, 1.75, 2.0, 3.3])
def test_the_resize_on_the_device_gives_the_bytes_of_pillow(scale: float) -> None:
    for image in images():
        size = round(image.shape[0] * scale), round(image.shape[1] * scale)
        pillow = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)
        batch = resized(torch.from_numpy(np.stack([image, image[::-1]])), size)
        assert batch.dtype == torch.uint8
        assert np.array_equal(batch[0].numpy(), np.asarray(pillow))


@pytest.mark.parametrize("size", [(90, 90), (40, 130), (1, 1), (300, 3)])
def test_a_side_may_grow_while_the_other_shrinks(size: tuple[int, int]) -> None:
    for image in images():
        pillow = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)
        batch = resized(torch.from_numpy(image)[None], size)[0].numpy()
        assert np.abs(batch.astype(int) - np.asarray(pillow)).max() <= 1


def test_an_image_of_the_size_is_left_as_it_is() -> None:
    image = torch.from_numpy(images()[0])[None]
    assert torch.equal(resized(image, (75, 101)), image)
