"""The views of test-time augmentation, how they are resized, and how their maps are merged."""

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from strided_network import CPU, network

from wsss.data.images import load_image
from wsss.data.index import Index
from wsss.data.normalisation import Normalisation
from wsss.data.resize import resize_by
from wsss.inference.multiscale import multiscale
from wsss.inference.views import (
    TestTimeAugmentation,
    ViewMerging,
    ViewResizing,
    cam_augmentation,
    decode_augmentation,
    segmenter_augmentation,
)
from wsss.settings import CamParams, DecodeParams, SegmenterParams

NORMALISE = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CORNERS = (..., [0, 0, -1, -1], [0, -1, 0, -1])


def at(size: tuple[int, int], **merging: bool) -> TestTimeAugmentation:
    """Return an augmentation with maps of `size`, without mirrored views."""
    return TestTimeAugmentation(merging=ViewMerging(**merging), map_sizes=(lambda _: size,))


def test_maps_are_merged_as_stated() -> None:
    views, size = [torch.rand(2, 3, 32, 48), torch.rand(2, 3, 16, 24)], (8, 12)
    net = network()
    with torch.inference_mode():
        single = [multiscale(net, [view], at(size), (32, 48), CPU)[0] for view in views]
        (largest,) = multiscale(net, views, at(size, maximum=True), (32, 48), CPU)
        (soft,) = multiscale(net, views, at(size, softmax=True, maximum=True), (32, 48), CPU)
    assert torch.equal(largest, torch.maximum(*single))
    assert torch.equal(soft, torch.maximum(*(maps.softmax(1) for maps in single)))


def test_aligned_corners_keep_the_corners_of_maps() -> None:
    with torch.inference_mode():
        images = torch.rand(1, 3, 32, 48)
        maps = network()(images)
        augmentation = at((32, 48), align_corners=True)
        (resized,) = multiscale(network(), [images], augmentation, (32, 48), CPU)
    assert torch.allclose(resized[CORNERS], maps[CORNERS], atol=1e-6)


def test_images_are_resized_on_their_8_bits_or_normalised(squares: Index) -> None:
    image = load_image(squares.training()[0].path)
    height, width = image.shape[:2]
    plain = torch.from_numpy(NORMALISE(image))[None]
    assert ViewResizing().size((5, 7), 0.5) == (2, 4)
    assert ViewResizing(floor=True).size((5, 7), 0.5) == (2, 3)
    for kernel in ("picture", "bicubic", "bilinear", "bilinear_corners"):
        resizing = ViewResizing(kernel)
        assert torch.equal(resizing.view([image], 1.0, NORMALISE), plain)
        assert resizing.view([image], 0.5, NORMALISE).shape == (1, 3, height // 2, width // 2)
    aligned = ViewResizing("bilinear_corners").view([image], 1.5, NORMALISE)
    assert torch.allclose(aligned[CORNERS], plain[CORNERS], atol=1e-5)


def test_scales_are_relative_to_the_square_that_images_become(squares: Index) -> None:
    image = load_image(squares.training()[0].path)
    whole = torch.from_numpy(NORMALISE(image))[None]
    for kernel in ("picture", "bicubic", "bilinear"):
        once = ViewResizing(kernel, square_px=40)
        twice = ViewResizing(kernel, square_px=40, via_base=True)
        assert once.size((5, 7), 1.5) == (60, 60)
        assert ViewResizing(kernel, multiple=16, square_px=40).size((5, 7), 1.5) == (64, 64)
        assert torch.equal(once.view([image], 1.0, NORMALISE), twice.view([image], 1.0, NORMALISE))
        direct, detour = once.view([image], 1.5, NORMALISE), twice.view([image], 1.5, NORMALISE)
        assert direct.shape == detour.shape == (1, 3, 60, 60)
        assert not torch.equal(direct, detour)
    square = F.interpolate(whole, (40, 40), mode="bilinear")
    enlarged = F.interpolate(square, (60, 60), mode="bilinear")
    assert torch.equal(twice.view([image], 1.5, NORMALISE), enlarged)


def test_a_scale_that_gives_no_whole_size_is_kept_exactly() -> None:
    ramp = torch.arange(57.0).repeat(1, 3, 9, 1)
    for scale in (0.5, 0.75, 1.25, 1.75):
        size = ViewResizing().size((9, 57), scale)
        resized = resize_by(ramp, (scale, scale), size)
        assert resized.shape[2:] == size
        places = (torch.arange(size[1]) + 0.5) / scale - 0.5
        inner = (places > 2) & (places < 54)
        # this kernel gives a ramp back to within 0.06; by the sizes it would be up to 1 away
        assert torch.allclose(resized[0, 0, 4 % size[0], inner], places[inner], atol=0.06)


def test_images_come_to_a_long_side_before_their_scales_and_sides_shrink_to_multiples() -> None:
    resizing = ViewResizing(multiple=16, multiple_down=True, via_base=True, long_side_px=100)
    assert resizing.base((30, 60)) == (50, 100)
    assert resizing.base((60, 30)) == (100, 50)
    assert [resizing.size((30, 60), scale) for scale in (0.1, 1.0)] == [(16, 16), (48, 96)]
    image = np.random.default_rng(0).integers(0, 255, (30, 60, 3), np.uint8)
    large = ViewResizing(long_side_px=100, via_base=True).view([image], 1.0, NORMALISE)
    expected = ViewResizing().view([image], 100 / 60, NORMALISE)
    assert torch.equal(large, expected)


def test_rounded_down_the_factor_of_a_long_side_comes_first() -> None:
    resizing = ViewResizing("bilinear", floor=True, long_side_px=512, via_base=True)
    factor = 512 / 107
    assert resizing.base((107, 50)) == (int(107 * factor), int(50 * factor)) == (511, 239)
    image = np.random.default_rng(0).integers(0, 255, (30, 61, 3), np.uint8)
    small = ViewResizing("bilinear", floor=True, long_side_px=61, via_base=True)
    expected = F.interpolate(
        small.view([image], 1.0, NORMALISE), scale_factor=0.7, mode="bilinear"
    )  # goes by the factor, not by the sizes
    assert expected.shape[2:] == small.size((30, 61), 0.7) == (21, 42)
    assert torch.equal(small.view([image], 0.7, NORMALISE), expected)


def test_views_merge_at_the_cells_of_scale_1_and_are_enlarged_once() -> None:
    params = DecodeParams(
        scales=(1.0, 0.5),
        mirror=True,
        merge_at="grid",
        size_rounding="floor",
        long_side_px=32,
        resize="bilinear",
    )
    augmentation = decode_augmentation(params, 8)
    image = np.random.default_rng(0).integers(0, 255, (24, 64, 3), np.uint8)
    views = augmentation.views([image], NORMALISE)
    assert [tuple(view.shape[2:]) for view in views] == [(12, 32), (6, 16)]
    cells = lambda images: F.avg_pool2d(images, 8, ceil_mode=True)[:, :1]  # noqa: E731
    (merged,) = multiscale(cells, views, augmentation, (24, 64), CPU)
    assert merged.shape[2:] == (24, 64)
    at_grid = [F.interpolate(cells(view), (1, 4), mode="bilinear") for view in views]
    mirrored = [
        F.interpolate(cells(view.flip(3)), (1, 4), mode="bilinear").flip(3) for view in views
    ]
    expected = F.interpolate(sum(at_grid) + sum(mirrored), (24, 64), mode="bilinear")
    assert torch.allclose(merged, expected, atol=1e-5)
    with pytest.raises(ValueError, match="exclude each other"):
        DecodeParams(square_px=32, long_side_px=32)


@pytest.mark.parametrize("merge", ["merge", "max"])
def test_the_first_scale_may_have_no_mirror_image(merge: str) -> None:
    changes = {"scales": (1.0, 0.5), "mirror": True, "mirror_first": False, "mirror_merge": merge}
    params = DecodeParams.model_validate({**changes, "resize": "bilinear"})
    augmentation = decode_augmentation(params)
    image = np.random.default_rng(0).integers(0, 255, (24, 64, 3), np.uint8)
    views = augmentation.views([image], NORMALISE)
    counts = []

    def rising(images: torch.Tensor) -> torch.Tensor:  # not the same for mirrored images
        counts.append(len(images))
        return images[:, :1] * torch.linspace(1, 2, images.shape[3])

    (merged,) = multiscale(rising, views, augmentation, (24, 64), CPU)
    assert counts == [1, 2]
    first, half = rising(views[0]), rising(views[1])
    both = [
        F.interpolate(maps, (24, 64), mode="bilinear")
        for maps in (half, rising(views[1].flip(3)).flip(3))
    ]
    expected = first + torch.maximum(*both) if merge == "max" else 2 * first + sum(both)
    assert torch.allclose(merged, expected, atol=1e-5)


def test_a_square_may_be_that_of_the_scales_alone() -> None:
    params = CamParams(square_px=32, merge_at="image", stride=1)
    augmentation = cam_augmentation(params)
    assert not params.at_square
    assert not augmentation.resizing.via_base
    assert augmentation.map_sizes[0]((10, 20)) == (10, 20)
    with pytest.raises(ValueError, match="exclude each other"):
        CamParams(square_px=32, long_side_px=32)


def test_the_augmentation_of_cams_follows_its_settings() -> None:
    params = CamParams(
        scales=(1.0, 0.5),
        mirror=False,
        resize="bilinear",
        size_rounding="floor",
        size_multiple=16,
        size_multiple_rounding="down",
        long_side_px=500,
        mirror_merge="max",
        clip="last",
        stride=4,
        high_res=True,
    )
    resizing = ViewResizing(
        "bilinear", floor=True, multiple=16, multiple_down=True, long_side_px=500, via_base=True
    )
    augmentation = cam_augmentation(params)
    assert (augmentation.scales, augmentation.mirror) == ((1.0, 0.5), False)
    assert augmentation.resizing == resizing
    assert augmentation.merging == ViewMerging(mirror_maximum=True, relu=True)
    assert [rule((33, 45)) for rule in augmentation.map_sizes] == [(9, 12), (48, 48)]
    assert cam_augmentation(CamParams()).merging == ViewMerging(mirror_maximum=False)


def test_the_augmentation_of_masks_follows_its_settings() -> None:
    test = {"merge": "max_softmax", "size_rounding": "floor", "resize": "bicubic"}
    params = SegmenterParams.model_validate({"test": test, "align_corners": True})
    augmentation = segmenter_augmentation(params)
    assert augmentation.scales == params.test.scales
    assert augmentation.resizing == ViewResizing("bicubic", floor=True)
    assert augmentation.merging == ViewMerging(softmax=True, maximum=True, align_corners=True)
    decoder = decode_augmentation(
        DecodeParams(square_px=448, square_first=True, merge="sum", mirror_merge="max")
    )
    assert decoder.resizing == ViewResizing(square_px=448, via_base=True)
    assert decoder.merging == ViewMerging(mirror_maximum=True)
    assert decode_augmentation(DecodeParams(merge="max")).merging == ViewMerging(maximum=True)
    assert [rule((5, 7)) for rule in decoder.map_sizes] == [(5, 7)]


def test_augmentations_reach_worker_processes_that_are_not_forked() -> None:
    for params in (CamParams(), CamParams(square_px=16), CamParams(high_res=True)):
        copy = pickle.loads(pickle.dumps(cam_augmentation(params)))  # noqa: S301  # written here
        sizes = [rule((20, 33)) for rule in copy.map_sizes]
        assert sizes == [rule((20, 33)) for rule in cam_augmentation(params).map_sizes]
