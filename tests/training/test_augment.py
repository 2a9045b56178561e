"""Augmentation: what is drawn, what is done with it, in which order, and what fills the rest."""

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from wsss.data.normalisation import Normalisation
from wsss.settings import AugmentParams
from wsss.training.augment import Draws, augment, change, draw, resize_labels, resize_plain
from wsss.training.colour import from_hsv, shift_hsv, to_hsv, turn_hue

PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), unit=1.0)
SHIFTED = Normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
STILL = AugmentParams(crop_px=40, scale=(1.0, 1.0), mirror=False, jitter=0.0)


def picture(height: int = 30, width: int = 50) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def varied(**options: object) -> AugmentParams:
    return STILL.model_copy(update=options)


def test_draws_depend_on_the_generator_alone() -> None:
    params = AugmentParams(hue=0.1, hsv=10)
    first, again, other = (draw((90, 70), params, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first == again != other


def test_draws_stay_in_their_ranges() -> None:
    params = AugmentParams(crop_px=64, scales=(0.5, 2.0), hue=0.1, hsv=10, size_rounding="floor")
    found = [draw((50, 71), params, np.random.default_rng(seed)) for seed in range(200)]
    assert {d.size for d in found} == {(25, 35), (100, 142)}
    assert {d.mirror for d in found} == {True, False}
    assert max(abs(d.hue) for d in found) <= 0.1
    assert {v for d in found for v in d.hsv} == set(range(-10, 11))
    assert {d.top for d in found if d.size[0] == 25} <= set(range(-39, 1))
    assert {d.left for d in found if d.size[1] == 142} <= set(range(79))


def test_a_small_image_can_stand_at_the_top_left() -> None:
    params = AugmentParams(crop_px=64, scale=(1.0, 1.0), place="top_left")
    found = [draw((30, 90), params, np.random.default_rng(seed)) for seed in range(50)]
    assert {d.top for d in found} == {0}
    assert len({d.left for d in found}) > 10


@pytest.mark.parametrize(("fill", "value"), [("mean", 0.0), ("black", -2.0)])
def test_what_lies_outside_is_filled(fill: str, value: float) -> None:
    params = varied(image_fill=fill, label_fill=0)
    mask = np.full((30, 50), 7, np.uint8)
    image, cut = change(picture(), mask, Draws((30, 50), top=-4, left=3), params, SHIFTED)
    assert (image[:, :4] == value).all()
    assert (image[:, 34:] == value).all()
    assert np.array_equal(image[:, 4:34], SHIFTED(picture()[:, 3:43]))
    assert cut is not None
    assert (cut[4:34] == 7).all()
    assert not cut[:4].any()
    assert not cut[34:].any()


def test_a_mirror_after_the_crop_mirrors_what_fills_it_too() -> None:
    draws = Draws((30, 20), mirror=True)
    sides = []
    for order in (("scale", "mirror", "colour", "crop"), ("scale", "colour", "crop", "mirror")):
        _, cut = change(
            picture(30, 20), np.zeros((30, 20), np.uint8), draws, varied(order=order), PLAIN
        )
        assert cut is not None
        sides.append((cut[0, 0] == 255, cut[0, -1] == 255))
    assert sides == [(False, True), (True, False)]


def test_the_image_and_its_labels_move_together() -> None:
    params = AugmentParams(crop_px=33, scale=(1.0, 1.0), jitter=0.0)
    mask = picture()[..., 0]
    for seed in range(20):
        image, cut, _ = augment(picture(), mask, params, PLAIN, np.random.default_rng(seed))
        assert cut is not None
        inside = cut != 255
        assert np.array_equal(image[0][inside], cut[inside])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": ("scale", "mirror", "crop")}, "order must name"),
        ({"order": ("scale", "crop", "colour", "mirror")}, "scale and colour before crop"),
        ({"interpolation": "bilinear_plain"}, "colours change on 8 bits"),
        ({"scales": (1.0,), "long_side_px": (10, 20)}, "exclude each other"),
    ],
)
def test_impossible_orders_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AugmentParams.model_validate(options)


def test_blue_comes_first_where_a_network_wants_it() -> None:
    caffe = Normalisation((104.0, 116.0, 122.0), (1.0, 1.0, 1.0), unit=1.0, bgr=True)
    image = np.array([[[10, 20, 30]]], np.uint8)
    assert caffe(image)[:, 0, 0].tolist() == [30 - 104, 20 - 116, 10 - 122]
    assert np.array_equal(caffe.undo(caffe(picture())), picture())


def test_a_normalised_image_comes_back_to_within_one() -> None:
    imagenet = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    lost = picture().astype(int) - imagenet.undo(imagenet(picture()))
    assert set(np.unique(lost)) <= {0, 1}


def cubic(distance: float, a: float = -0.75) -> float:
    """Return Keys' kernel, with the parameter that OpenCV has."""
    x = abs(distance)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def linear(distance: float) -> float:
    return max(0.0, 1 - abs(distance))


@pytest.mark.parametrize(("kernel", "weight"), [("bicubic", cubic), ("bilinear", linear)])
@pytest.mark.parametrize("new", [7, 23, 31])
def test_plain_resizing_is_opencvs(kernel: str, weight: object, new: int) -> None:
    row = picture(1, 13).astype(np.float64)
    found = resize_plain(row, (1, new), kernel)
    for place in range(new):
        centre = (place + 0.5) * 13 / new - 0.5
        near = np.arange(np.floor(centre) - 1, np.floor(centre) + 3)
        weights = np.array([weight(centre - x) for x in near])  # type: ignore[operator]
        expected = weights @ row[0, np.clip(near, 0, 12).astype(int)]
        assert np.abs(found[0, place] - expected).max() < 1e-3


def test_labels_are_taken_from_the_centre_or_the_corner_of_a_cell() -> None:
    labels = np.arange(16, dtype=np.uint8)[None].repeat(16, 0)
    assert resize_labels(labels, (4, 4), "centre")[0].tolist() == [2, 6, 10, 14]
    assert resize_labels(labels, (4, 4), "corner")[0].tolist() == [0, 4, 8, 12]
    assert resize_labels(labels[:, :3], (16, 5), "corner")[0].tolist() == [0, 0, 1, 1, 2]


def test_hsv_has_opencvs_ranges_and_comes_back() -> None:
    grid = np.arange(0, 256, 15)
    image = np.stack(np.meshgrid(grid, grid, grid), -1).reshape(-1, 1, 3).astype(np.uint8)
    hue, saturation, value = to_hsv(image)
    assert (hue.max(), saturation.max(), value.max()) == (178, 255, 255) or hue.max() == 179
    # eight-bit hue and saturation are steps of 2 degrees and 1/255
    assert np.abs(from_hsv(hue, saturation, value).astype(int) - image).max() <= 5
    primary = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]], np.uint8)
    assert [channel[0].tolist() for channel in to_hsv(primary)] == [
        [0, 60, 120, 0], [255, 255, 255, 0], [255, 255, 255, 9],
    ]  # fmt: skip


def test_hsv_shifts_turn_around_and_stop_at_the_ends() -> None:
    red = np.array([[[250, 0, 0]]], np.uint8)
    assert to_hsv(shift_hsv(red, (-10, 0, 0)))[0].item() == 170
    assert shift_hsv(red, (0, 0, 10)).tolist() == [[[255, 0, 0]]]
    assert shift_hsv(red, (0, -255, 0)).tolist() == [[[250, 250, 250]]]


def test_a_full_turn_of_the_hue_leaves_colours_alone() -> None:
    hsv = np.asarray(Image.fromarray(turn_hue(picture(), 1 / 3)).convert("HSV"))[..., 0]
    before = np.asarray(Image.fromarray(picture()).convert("HSV"))[..., 0]
    turned = (hsv.astype(int) - before - 85 + 128) % 256 - 128
    assert np.median(np.abs(turned)) <= 1
    assert np.abs(turn_hue(picture(), 0.0).astype(int) - picture()).max() <= 6
