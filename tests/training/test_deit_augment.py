"""DeiT's augmentation: crops, operations and erased boxes are as timm's, and repeat themselves."""

import numpy as np
import pytest
from PIL import Image
from timm.data import auto_augment

from wsss.data.normalisation import Normalisation
from wsss.settings import AffinityParams, AugmentParams
from wsss.training.augment import augment
from wsss.training.deit_augment import (
    FILL,
    OPERATIONS,
    draw_crop,
    draw_erased,
    draw_operations,
    operate,
)

NORMALISE = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
TIMMS = {  # ours -> theirs
    "auto_contrast": "AutoContrast",
    "equalize": "Equalize",
    "invert": "Invert",
    "rotate": "Rotate",
    "posterize": "PosterizeIncreasing",
    "solarize": "SolarizeIncreasing",
    "solarize_add": "SolarizeAdd",
    "color": "ColorIncreasing",
    "contrast": "ContrastIncreasing",
    "brightness": "BrightnessIncreasing",
    "sharpness": "SharpnessIncreasing",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateXRel",
    "translate_y": "TranslateYRel",
}


def picture() -> np.ndarray:
    waves = np.sin(np.arange(40)[:, None, None] / 5 + np.arange(56)[None, :, None] / 9)
    return ((waves * [100, 60, 30] + 127) % 256).astype(np.uint8)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("level", [0.0, 4.2, 9.0])
def test_operations_are_timms(name: str, level: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_augment, "_randomly_negate", lambda value: value)
    options = {"fillcolor": FILL, "resample": Image.Resampling.BICUBIC}
    arguments = auto_augment.LEVEL_TO_ARG[TIMMS[name]]
    values = arguments(level, {"translate_pct": 0.45}) if arguments else ()
    theirs = auto_augment.NAME_TO_OP[TIMMS[name]](Image.fromarray(picture()), *values, **options)
    assert np.array_equal(operate(picture(), ((name, level),)), np.asarray(theirs))


def test_operations_are_as_many_and_as_strong_as_said() -> None:
    generator = np.random.default_rng(0)
    drawn = [draw_operations(9.0, generator) for _ in range(2000)]
    assert np.mean([len(operations) for operations in drawn]) == pytest.approx(1.0, abs=0.05)
    levels = np.array([level for operations in drawn for _, level in operations])
    assert np.abs(levels).mean() == pytest.approx(9.0, abs=0.05)
    assert np.abs(levels).max() <= 10
    assert (levels > 0).mean() == pytest.approx(0.5, abs=0.05)
    assert {name for operations in drawn for name, _ in operations} == set(OPERATIONS)


def test_crops_fit_have_their_area_and_are_centred_if_none_fits() -> None:
    generator = np.random.default_rng(0)
    shares = []
    for _ in range(500):
        top, left, height, width = draw_crop((60, 80), (0.2, 0.8), generator)
        assert top + height <= 60
        assert left + width <= 80
        assert 0.7 < width / height < 1.4
        shares.append(height * width / 4800)
    assert min(shares) > 0.18
    assert max(shares) < 0.82
    assert draw_crop((30, 90), (1.1, 1.2), generator) == (0, 25, 30, 40)


def test_crops_of_an_enlarging_range_cover_what_the_authors_covered() -> None:
    generator = np.random.default_rng(0)
    drawn = [draw_crop((375, 500), (0.6, 1.2), generator) for _ in range(3000)]
    covered = [height * width / (375 * 500) for _, _, height, width in drawn]
    assert np.mean(covered) == pytest.approx(0.73, abs=0.02)


def test_an_erased_box_is_noise_and_the_rest_stays() -> None:
    params = AugmentParams(crop_px=40, area=(1.0, 1.0), mirror=False, jitter=0.0, erase=1.0)
    plain = params.model_copy(update={"erase": 0.0})
    for seed in range(8):
        generators = (np.random.default_rng(seed) for _ in range(3))
        changed, again, before = (
            augment(picture(), None, chosen, NORMALISE, generator)[0]
            for chosen, generator in zip((params, params, plain), generators, strict=True)
        )
        assert np.array_equal(changed, again)
        differs = (changed != before).any(0)
        rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
        assert differs[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert 0.01 < differs.mean() < 0.4
    sizes = [draw_erased(100, np.random.default_rng(seed)) for seed in range(200)]
    areas = [box[2] * box[3] / 1e4 for box in sizes if box]
    assert min(areas) > 0.015
    assert max(areas) < 0.35


def test_labels_follow_a_crop_and_not_what_moves_pixels() -> None:
    image = fill_squares()
    params = AugmentParams(crop_px=32, area=(0.3, 0.6), jitter=0.0)
    cropped, labels, _ = augment(
        image, image[..., 0] // 255, params, NORMALISE, np.random.default_rng(1)
    )
    assert labels is not None
    inner = (cropped[0] > 0.5) == (labels == 1)
    assert inner.mean() > 0.9
    with pytest.raises(ValueError, match="rand_augment and erase leave pixel labels as they are"):
        AffinityParams(augment=AugmentParams(rand_augment=9.0))


def fill_squares() -> np.ndarray:
    found = np.zeros((48, 64, 3), np.uint8)
    found[:24, :32] = found[24:, 32:] = 255
    return found
