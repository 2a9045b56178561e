"""From merged maps to stored CAMs: present classes, sizes, the range of scores."""

import numpy as np
import pytest
import torch
from torch import nn

from wsss.inference.cam_maps import high_size, merged_cam, merged_cams, to_cam
from wsss.inference.views import cam_augmentation
from wsss.settings import CamParams
from wsss.storage.cam_archive import Cam, pack, unpack


def test_a_cam_has_only_present_classes_and_its_largest_score_is_one() -> None:
    cam = to_cam(torch.rand(5, 6, 7) * 9, [1, 3], (24, 28), 4)
    assert cam.labels.tolist() == [1, 3]
    assert cam.cam.shape == (2, 6, 7)
    assert np.allclose(cam.cam.max((1, 2)), 1, atol=1e-3)


def test_an_absent_signal_gives_zeros_and_no_nan() -> None:
    assert to_cam(torch.zeros(2, 3, 3), [0], (12, 12), 4).cam.max() == 0


def test_maps_at_full_size_are_resized_to_multiples_of_16_cut_and_used() -> None:
    size, maps = (33, 45), torch.rand(2, 9, 12)
    assert high_size(size) == (48, 48)
    assert high_size((32, 48)) == (32, 48)
    high = torch.rand(2, *high_size(size))
    high[1, 40:] = 7  # outside the image, so no largest score
    cam = unpack(pack(to_cam(maps, [1], size, 4, high)), "x")
    assert cam.full().shape == (1, *size)
    assert cam.full().max() == pytest.approx(1, abs=1e-3)
    assert np.allclose(cam.full()[0], high[1, :33, :45] / high[1, :33, :45].max(), atol=1e-3)
    assert unpack(pack(to_cam(maps, [1], size, 4)), "x").high is None


def test_stored_maps_come_back_and_grow_to_the_image() -> None:
    cam = Cam(
        np.array([2], np.int16),
        np.random.default_rng(0).random((1, 5, 7)).astype(np.float16),
        (18, 26),
        4,
    )
    again = unpack(pack(cam), "x")
    assert np.array_equal(again.cam, cam.cam)
    source = torch.from_numpy(cam.cam.astype(np.float32))[None]
    expected = nn.functional.interpolate(source, scale_factor=4, mode="bilinear")[0, :, :18, :26]
    assert np.abs(again.full() - expected.numpy()).max() < 1e-6


def test_maps_of_a_square_reach_from_0_to_1_there_and_fit_the_image() -> None:
    params = CamParams(square_px=16, stride=4, high_res=True, normalise="stretch")
    maps = torch.rand(3, 16, 16) + 5
    assert [rule((20, 33)) for rule in cam_augmentation(params).map_sizes] == [(16, 16)]
    cam = merged_cam([maps], [0, 2], (20, 33), params)
    assert cam.cam.shape == (2, 5, 9)
    assert cam.high is not None
    assert cam.high.shape == (2, 20, 33)
    same = params.model_copy(update={"stride": 1, "high_res": False})
    scores = merged_cam([maps], [0, 2], (16, 16), same).cam
    assert scores.min((1, 2)).tolist() == [0, 0]
    assert np.allclose(scores.max((1, 2)), 1, atol=1e-3)
    empty = merged_cam([maps], [], (20, 33), params)
    assert empty.cam.shape == (0, 5, 9)


@pytest.mark.parametrize("extra", [{}, {"square_px": 16, "normalise": "stretch"}, {"clip": "sum"}])
def test_cams_of_a_batch_are_those_of_its_images(extra: dict[str, object]) -> None:
    params = CamParams.model_validate({"high_res": True, **extra})
    sizes = [rule((20, 33)) for rule in cam_augmentation(params).map_sizes]
    maps = [torch.randn(3, 4, *size) for size in sizes]
    labels = [[0, 2], [], [3]]
    cams = merged_cams(maps, labels, (20, 33), params)()
    for image, cam in enumerate(cams):
        alone = merged_cam([scores[image] for scores in maps], labels[image], (20, 33), params)
        assert cam.labels.tolist() == labels[image]
        assert pack(cam) == pack(alone)


def test_negative_scores_count_until_views_are_summed() -> None:
    maps = torch.tensor([[[[2.0, -3.0]]], [[[-1.0, 1.0]]]])
    params = CamParams(clip="sum", normalise="max", stride=1)
    cam = merged_cam([maps.sum(0)], [0], (1, 2), params)
    assert cam.cam[0, 0].tolist() == [1.0, 0.0]
    signed = CamParams(clip="sum", normalise="range_signed", stride=1)
    assert (merged_cam([-maps.abs().sum(0)], [0], (1, 2), signed).cam == -1).all()
