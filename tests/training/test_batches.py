"""Batches of training images: 8 bits from the loader, normalised on the device to the same values."""

import dataclasses

import numpy as np
import pytest
import torch

from wsss.data.images import load_entry
from wsss.data.index import Index
from wsss.data.normalisation import Normalisation
from wsss.nets.backbone import IMAGENET
from wsss.randomness import rng
from wsss.settings import AugmentParams
from wsss.training.augment import augment
from wsss.training.batches import Schedule, TrainingImages, batches
from wsss.training.strong_views import views

IMAGES = 8
MIRROR_LAST = ("scale", "colour", "crop", "mirror")


@pytest.mark.parametrize(
    ("settings", "dtype"),
    [
        ({}, torch.uint8),
        ({"image_fill": "black", "order": MIRROR_LAST}, torch.uint8),
        ({"strong_views": ("whole", "local")}, torch.uint8),
        ({"strong_views": ("image",)}, torch.uint8),
        ({"erase": 0.9, "order": MIRROR_LAST}, torch.float32),
        ({"interpolation": "bilinear_plain", "jitter": 0.0}, torch.float32),
    ],
)
def test_images_leave_the_loader_with_8_bits_and_become_what_they_were(
    squares: Index, settings: dict[str, object], dtype: torch.dtype
) -> None:
    params = AugmentParams.model_validate({"crop_px": 64, **settings})  # larger than some images
    normalise, entries = Normalisation(*IMAGENET), squares.training()[:IMAGES]
    images = TrainingImages(squares, entries, params, normalise, 0)
    schedule = Schedule(len(entries), IMAGES, 1, 1, 0)
    (batch,) = batches(images, schedule, 0, 0)
    assert batch["image"].dtype == dtype
    complete = images.normalised(batch)
    for place, number in enumerate(batch["number"].tolist()):
        name, image = entries[number].name, load_entry(entries[number])
        crop, _, draws = augment(image, None, params, normalise, rng(0, "augment", 0, name))
        expected = {"image": crop}
        if params.strong_views:
            expected |= views(image, draws, params, normalise, rng(0, "views", 0, name))
        for key, values in expected.items():
            assert np.array_equal(complete[key][place].numpy(), values)  # type: ignore[literal-required]


def test_processes_load_the_same_batches(squares: Index) -> None:
    params, normalise = AugmentParams(crop_px=32), Normalisation(*IMAGENET)
    images = TrainingImages(squares, squares.training(), params, normalise, 0)
    schedule = dataclasses.replace(Schedule(len(images), 4, 1, 1, 0), limit=3)
    alone, helped = (list(batches(images, schedule, 0, workers)) for workers in (0, 2))
    assert [batch["name"] for batch in alone] == [batch["name"] for batch in helped]
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one["image"], other["image"])
