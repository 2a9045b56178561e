"""Batches of training images: 8 bits from the loader, normalised on the device to the same values."""

import dataclasses
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from wsss.data.images import load_entry, load_entry_mask
from wsss.data.index import Index
from wsss.data.normalisation import Normalisation
from wsss.errors import MissingError
from wsss.nets.backbone import IMAGENET
from wsss.randomness import rng
from wsss.settings import AugmentParams
from wsss.training.augment import augment
from wsss.training.batches import KEPT_BYTES, Schedule, TrainingImages, batches
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


def test_small_datasets_are_decoded_once(squares: Index, tmp_path: Path) -> None:
    normalise, entries = Normalisation(*IMAGENET), []
    for entry in squares.training()[:IMAGES]:
        copy = tmp_path / Path(entry.path).name
        shutil.copyfile(entry.path, copy)
        entries.append(dataclasses.replace(entry, path=str(copy)))
    params = AugmentParams(crop_px=32, hue=0.1, strong_views=("whole", "local"))
    remembering, reading = (
        TrainingImages(squares, entries, params, normalise, 0, load_entry_mask, kept_bytes=size)
        for size in (KEPT_BYTES, 0)
    )
    for epoch, number in itertools.product(range(2), range(IMAGES)):
        one, other = remembering[epoch, number], reading[epoch, number]
        for key in ("image", "whole", "local", "mask"):
            assert torch.equal(one[key], other[key])  # type: ignore[literal-required]
    for entry in entries:
        Path(entry.path).unlink()
    assert remembering[2, 0]["name"] == entries[0].name
    with pytest.raises(MissingError):
        reading[2, 0]
