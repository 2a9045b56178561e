"""Multi-scale inference: batching, mirroring and sharding change nothing."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.data.images import load_image
from wsss.data.index import Index
from wsss.data.normalisation import Normalisation
from wsss.data.resize import resize_by
from wsss.inference.cam_maps import cam_sizes, high_size, joined_cam, to_cam
from wsss.inference.multiscale import (
    Joining,
    Resizing,
    ScaledImages,
    inference,
    multiscale,
    multisize,
    part,
    plan_batches,
)
from wsss.machine.runtime import Runtime
from wsss.settings import CamParams
from wsss.storage.cam_archive import Cam, pack, unpack

CPU = Runtime(torch.device("cpu"), torch.float32)
NORMALISE = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def look() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 5, 4, 2), nn.ReLU()).eval()


def collect(index: Index, batch: int) -> dict[str, Tensor]:
    params = CamParams(batch=batch)
    batches = plan_batches(index.training(), batch)
    found = {}
    with torch.inference_mode():
        for entries, maps in inference(
            look(), batches, params, lambda size: (size[0] // 4, size[1] // 4), NORMALISE, CPU
        ):
            found |= {entry.name: own for entry, own in zip(entries, maps, strict=True)}
    return found


def test_images_one_by_one_and_in_batches_give_the_same_maps(squares: Index) -> None:
    alone, together = collect(squares, 1), collect(squares, 7)
    assert alone.keys() == together.keys() == {entry.name for entry in squares.training()}
    assert max((alone[name] - together[name]).abs().max() for name in alone) < 1e-5


def test_maps_of_a_mirrored_image_are_mirrored() -> None:
    images = torch.rand(1, 3, 32, 48)
    with torch.inference_mode():
        straight = multiscale(look(), [images], True, (8, 12), CPU)
        mirrored = multiscale(look(), [images.flip(3)], True, (8, 12), CPU)
    assert torch.allclose(straight.flip(3), mirrored, atol=1e-6)


def test_a_net_that_sees_the_same_everywhere_gives_constant_maps(squares: Index) -> None:
    images = ScaledImages([squares.training()[:1]], (1.0, 0.5, 1.5, 0.77), NORMALISE)[0]
    total = multiscale(lambda x: torch.ones(len(x), 2, 3, 5), images, True, (12, 16), CPU)
    assert torch.equal(total, torch.full((1, 2, 12, 16), 8.0))


def test_shards_are_whole_batches_and_cover_everything(squares: Index) -> None:
    batches = plan_batches(squares.training(), 5)
    assert all(len({entry.size for entry in batch}) == 1 for batch in batches)
    for count in (1, 2, 3, 50):
        shards = [part(batches, (k, count)) for k in range(1, count + 1)]
        assert sorted(e.name for s in shards for b in s for e in b) == [
            e.name for e in squares.training()
        ]


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


def test_one_look_gives_maps_of_several_sizes() -> None:
    images, sizes, seen = [torch.rand(2, 3, 32, 48)], [(8, 12), (32, 48)], []
    net = look()
    counted = lambda batch: seen.append(0) or net(batch)  # noqa: E731
    with torch.inference_mode():
        found = multisize(counted, images, True, sizes, CPU)
        alone = [multiscale(net, images, True, size, CPU) for size in sizes]
    assert len(seen) == 1
    assert all(torch.equal(a, b) for a, b in zip(found, alone, strict=True))


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


def test_looks_are_joined_as_stated() -> None:
    images, shapes = [torch.rand(2, 3, 32, 48), torch.rand(2, 3, 16, 24)], (8, 12)
    with torch.inference_mode():
        each = [multiscale(look(), [own], False, shapes, CPU) for own in images]
        largest = multiscale(look(), images, False, shapes, CPU, Joining(largest=True))
        soft = multiscale(look(), images, False, shapes, CPU, Joining(softmax=True, largest=True))
    assert torch.equal(largest, torch.maximum(*each))
    assert torch.equal(soft, torch.maximum(*(own.softmax(1) for own in each)))


def test_aligned_corners_keep_the_corners_of_maps() -> None:
    with torch.inference_mode():
        images = torch.rand(1, 3, 32, 48)
        maps = look()(images)
        grown = multiscale(look(), [images], False, (32, 48), CPU, Joining(align_corners=True))
    corners = (..., [0, 0, -1, -1], [0, -1, 0, -1])
    assert torch.allclose(grown[corners], maps[corners], atol=1e-6)


def test_images_are_resized_on_their_8_bits_or_normalised(squares: Index) -> None:
    image = load_image(squares.training()[0].path)
    height, width = image.shape[:2]
    plain = torch.from_numpy(NORMALISE(image))[None]
    assert Resizing().size((5, 7), 0.5) == (2, 4)
    assert Resizing(floor=True).size((5, 7), 0.5) == (2, 3)
    for kernel in ("picture", "bicubic", "bilinear", "bilinear_corners"):
        assert torch.equal(Resizing(kernel)([image], 1.0, NORMALISE), plain)
        assert Resizing(kernel)([image], 0.5, NORMALISE).shape == (1, 3, height // 2, width // 2)
    corners = (..., [0, 0, -1, -1], [0, -1, 0, -1])
    aligned = Resizing("bilinear_corners")([image], 1.5, NORMALISE)
    assert torch.allclose(aligned[corners], plain[corners], atol=1e-5)


def test_scales_are_of_the_square_that_images_become(squares: Index) -> None:
    image = load_image(squares.training()[0].path)
    whole = torch.from_numpy(NORMALISE(image))[None]
    for kernel in ("picture", "bicubic", "bilinear"):
        once = Resizing(kernel, square_px=40)
        twice = Resizing(kernel, square_px=40, again=True)
        assert once.size((5, 7), 1.5) == (60, 60)
        assert Resizing(kernel, multiple=16, square_px=40).size((5, 7), 1.5) == (64, 64)
        assert torch.equal(once([image], 1.0, NORMALISE), twice([image], 1.0, NORMALISE))
        direct, detour = once([image], 1.5, NORMALISE), twice([image], 1.5, NORMALISE)
        assert direct.shape == detour.shape == (1, 3, 60, 60)
        assert not torch.equal(direct, detour)
    square = F.interpolate(whole, (40, 40), mode="bilinear")
    grown = F.interpolate(square, (60, 60), mode="bilinear")
    assert torch.equal(twice([image], 1.5, NORMALISE), grown)


def test_maps_of_a_square_reach_from_0_to_1_there_and_fit_the_image() -> None:
    params = CamParams(square_px=16, stride=4, high_res=True, normalise="stretch")
    maps = torch.rand(3, 16, 16) + 5
    assert [rule((20, 33)) for rule in cam_sizes(params)] == [(16, 16)]
    cam = joined_cam([maps], [0, 2], (20, 33), params)
    assert cam.cam.shape == (2, 5, 9)
    assert cam.high is not None
    assert cam.high.shape == (2, 20, 33)
    same = params.model_copy(update={"stride": 1, "high_res": False})
    own = joined_cam([maps], [0, 2], (16, 16), same).cam
    assert own.min((1, 2)).tolist() == [0, 0]
    assert np.allclose(own.max((1, 2)), 1, atol=1e-3)
    empty = joined_cam([maps], [], (20, 33), params)
    assert empty.cam.shape == (0, 5, 9)


def test_a_scale_that_gives_no_whole_size_is_kept_exactly() -> None:
    ramp = torch.arange(57.0).repeat(1, 3, 9, 1)
    for scale in (0.5, 0.75, 1.25, 1.75):
        size = Resizing().size((9, 57), scale)
        found = resize_by(ramp, (scale, scale), size)
        assert found.shape[2:] == size
        places = (torch.arange(size[1]) + 0.5) / scale - 0.5
        inner = (places > 2) & (places < 54)
        # this kernel gives a ramp back to within 0.06; by the sizes it would be up to 1 away
        assert torch.allclose(found[0, 0, 4 % size[0], inner], places[inner], atol=0.06)


def test_images_come_to_a_long_side_before_their_scales_and_sides_shrink_to_multiples() -> None:
    how = Resizing(multiple=16, down=True, again=True, long_side_px=100)
    assert how.base((30, 60)) == (50, 100)
    assert how.base((60, 30)) == (100, 50)
    assert [how.size((30, 60), scale) for scale in (0.1, 1.0)] == [(16, 16), (48, 96)]
    image = np.random.default_rng(0).integers(0, 255, (30, 60, 3), np.uint8)
    large = Resizing(long_side_px=100, again=True)([image], 1.0, NORMALISE)
    wanted = Resizing()([image], 100 / 60, NORMALISE)
    assert torch.equal(large, wanted)


def test_negative_scores_count_until_looks_are_summed() -> None:
    maps = torch.tensor([[[[2.0, -3.0]]], [[[-1.0, 1.0]]]])
    params = CamParams(clip="sum", normalise="max", stride=1)
    cam = joined_cam([maps.sum(0)], [0], (1, 2), params)
    assert cam.cam[0, 0].tolist() == [1.0, 0.0]
    signed = CamParams(clip="sum", normalise="range_signed", stride=1)
    assert (joined_cam([-maps.abs().sum(0)], [0], (1, 2), signed).cam == -1).all()


def test_a_square_may_be_that_of_the_scales_alone() -> None:
    params = CamParams(square_px=32, merge_at="image", stride=1)
    assert not params.at_square
    assert cam_sizes(params)[0]((10, 20)) == (10, 20)
    with pytest.raises(ValueError, match="exclude each other"):
        CamParams(square_px=32, long_side_px=32)
