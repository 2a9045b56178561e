"""Local crops: where they lie, and what they are tagged as, with what is published and what is mended."""

import pytest
import torch

from wsss.methods.single_stage import crops
from wsss.methods.single_stage.crops import CropRule
from wsss.methods.single_stage.online_labels import UNSURE

RULE = CropRule(8, 3, 0.2)
PUBLISHED = CropRule(8, 3, 0.2, reseed=True, class_weights=True, absent=1)


def test_crops_are_centred_where_the_cam_is_unsure() -> None:
    sure = torch.zeros(1, 40, 40, dtype=torch.long)
    sure[0, 20:24, 10:14] = UNSURE
    corners, tags = crops.tagged_crops(sure, RULE)
    centres = corners[0] + 4
    assert (sure[0][centres[:, 0], centres[:, 1]] == UNSURE).all()
    assert tags.shape == (1, 5)


def test_places_are_other_ones_each_time_unless_reseeded() -> None:
    unsure = torch.ones(64, 64, dtype=torch.bool)
    torch.manual_seed(0)
    first, second = crops.places(unsure, RULE), crops.places(unsure, RULE)
    assert not torch.equal(first, second)
    again = crops.places(unsure, PUBLISHED)
    assert torch.equal(again, crops.places(unsure, PUBLISHED))


def test_a_crop_as_large_as_the_image_has_one_place() -> None:
    found = crops.places(torch.zeros(8, 8, dtype=torch.bool), RULE)
    assert found.tolist() == [[0, 0]] * 3
    assert crops.cut(torch.zeros(1, 3, 8, 8), found[None], 8).shape == (1, 3, 3, 8, 8)


@pytest.mark.parametrize(("rule", "whole"), [(RULE, -1), (PUBLISHED, 1)])
def test_an_image_without_anything_sure_is_mixed_or_as_published_the_first_class(
    rule: CropRule, whole: int
) -> None:
    sure = torch.full((1, 32, 32), UNSURE)
    _, tags = crops.tagged_crops(sure, rule)
    assert tags[0].tolist() == [whole, whole, -1, -1, -1]


def test_crops_of_an_image_with_one_class_take_it_where_they_are_only_unsure() -> None:
    sure = torch.full((1, 32, 32), UNSURE)
    sure[0, 0, 0] = 7
    _, tags = crops.tagged_crops(sure, RULE)
    assert tags[0].tolist() == [7, 7, 7, 7, 7]


def test_crops_of_background_are_background_and_those_of_several_classes_mixed() -> None:
    sure = torch.zeros(1, 32, 32, dtype=torch.long)
    assert crops.tagged_crops(sure, RULE)[1][0, 2:].tolist() == [0, 0, 0]
    sure[0, :, ::2] = 3
    sure[0, :, 1::2] = 5
    assert crops.tagged_crops(sure, RULE)[1][0].tolist() == [-1] * 5


def test_as_published_a_pixel_of_a_late_class_weighs_more() -> None:
    sure = torch.zeros(1, 32, 32, dtype=torch.long)
    sure[0, ::4, ::4] = 20  # a sixteenth of every crop, which is less than a fifth
    assert crops.tagged_crops(sure, RULE)[1][0, 2:].tolist() == [0, 0, 0]
    assert crops.tagged_crops(sure, PUBLISHED)[1][0, 2:].tolist() == [20, 20, 20]


def test_flags_say_whether_a_crop_shows_more_than_background() -> None:
    regions = torch.zeros(2, 32, 32, dtype=torch.long)
    regions[1] = 2
    corners, flags = crops.flagged_crops(regions, RULE)
    assert corners.shape == (2, 3, 2)
    assert flags.tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]
