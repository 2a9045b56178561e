"""Strong views: repeatable, of the right size, and the box of a crop."""

import numpy as np
import torch

from wsss.data.index import Index
from wsss.data.normalisation import Normalisation
from wsss.randomness import rng
from wsss.settings import AugmentParams
from wsss.training.augment import Draws, change, content, draw
from wsss.training.batches import TrainingImages
from wsss.training.strong_views import random_part, strong, views

PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1.0)
PARAMS = AugmentParams(crop_px=40, strong_views=("image", "whole", "local"), jitter=0.0)


def picture(height: int = 50, width: int = 70) -> np.ndarray:
    return rng(0, "picture").integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_views_are_those_asked_for_and_equal_for_equal_numbers() -> None:
    draws = draw((50, 70), PARAMS, rng(0, "draw"))
    first = views(picture(), draws, PARAMS, PLAIN, rng(0, "views"))
    again = views(picture(), draws, PARAMS, PLAIN, rng(0, "views"))
    assert set(first) == {"image", "whole", "local"}
    assert all(view.shape == (3, 40, 40) for view in first.values())
    assert all(np.array_equal(first[name], again[name]) for name in first)
    only = PARAMS.model_copy(update={"strong_views": ("local",)})
    assert set(views(picture(), draws, only, PLAIN, rng(0, "views"))) == {"local"}


def test_the_local_view_keeps_its_place_unless_it_may_be_mirrored() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, :20] = 250
    draws = Draws((40, 40))
    for mirror in (False, True):
        params = PARAMS.model_copy(update={"strong_views": ("local",), "mirror_local_view": mirror})
        seen = [views(image, draws, params, PLAIN, rng(n, "v"))["local"] for n in range(20)]
        turned = [view[:, :, :15].mean() < view[:, :, 25:].mean() for view in seen]
        assert any(turned) is mirror


def test_a_part_of_an_image_is_a_square_of_some_of_its_pixels() -> None:
    image = np.zeros((30, 60, 3), np.uint8)
    image[..., 0] = np.arange(60)
    for number in range(10):
        part = random_part(image, 24, rng(number, "part"))
        assert part.shape == (24, 24, 3)
        assert int(np.ptp(part[..., 0])) >= 15


def test_a_small_crop_is_blurred_by_as_much_of_its_side_as_a_large_one() -> None:
    kept = []
    for side in (56, 448):
        edge = np.zeros((side, side, 3), np.uint8)
        edge[:, side // 2 :] = 255
        seen = strong(edge, 1.0, False, rng(4, "chain")).astype(int)  # blurred in any case
        kept.append(np.abs(np.diff(seen[side // 2, :, 0])).max())
    assert kept[0] > kept[1]  # by a radius in pixels both would be equally soft


def test_colours_change_and_grey_pictures_stay_grey() -> None:
    found = strong(picture(), 0.0, False, rng(3, "chain"))
    assert found.shape == picture().shape
    grey = np.repeat(picture()[..., :1], 3, 2)
    for number in range(8):
        seen = strong(grey, 0.0, True, rng(number, "chain")).astype(int)
        assert np.ptp(seen, axis=2).max() <= 3


def test_the_box_is_where_the_image_is_in_its_crop() -> None:
    params = AugmentParams(crop_px=64, image_fill="black", jitter=0.0)
    image = np.full((30, 90, 3), 200, np.uint8)
    for number in range(10):
        draws = draw((30, 90), params, rng(number, "draw"))
        crop = change(image, None, draws, params, PLAIN)[0][0] > 0
        top, left, bottom, right = content(draws, params)
        expected = np.zeros((64, 64), bool)
        expected[top:bottom, left:right] = True
        assert np.array_equal(crop, expected)


def test_the_box_turns_with_a_mirror_after_the_crop() -> None:
    params = AugmentParams(crop_px=64, jitter=0.0, order=("scale", "colour", "crop", "mirror"))
    draws = Draws((64, 40), mirror=True, left=-3)
    assert content(draws, params) == (0, 64 - 43, 64, 64 - 3)


def test_training_images_have_their_box_and_views(squares: Index) -> None:
    params = AugmentParams(crop_px=32, strong_views=("whole", "local"))
    images = TrainingImages(squares, squares.training(), params, PLAIN, 0)
    first, again = images[0, 3], images[0, 3]
    assert first["content"].shape == (4,)
    assert all(
        torch.equal(first[key], again[key]) for key in ("image", "whole", "local", "content")
    )
    assert not torch.equal(first["whole"], images[1, 3]["whole"])
    plain = AugmentParams(crop_px=32)
    without = TrainingImages(squares, squares.training(), plain, PLAIN, 0)[0, 3]
    assert torch.equal(without["image"], first["image"])
    assert "whole" not in without
