"""Trained networks on images in memory: the numbers of the stages, from whatever holds pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import wsss
from wsss.errors import ConfigError, DatasetError, MissingError

RUN = "shapes/cam/common/s0"
NAME = "train-00004"
HALF_STEP = 1e-3  # two steps of the 16 bits in which maps are stored


@pytest.fixture(scope="module")
def run(study: Path) -> wsss.RunResults:
    """Return the results of the run."""
    return wsss.open_run(RUN, root=study)


@pytest.fixture(scope="module")
def model(study: Path) -> wsss.Model:
    """Return the networks of the run."""
    return wsss.load(RUN, root=study)


def test_cams_are_those_of_the_stage(model: wsss.Model, run: wsss.RunResults) -> None:
    for name in run.images("train"):
        cam, stored = model.cam(run.image(name), run.image_labels(name)), run.cam(name)
        np.testing.assert_allclose(cam.maps, stored.maps, atol=HALF_STEP)
        assert cam.classes == stored.classes
        assert cam.stride == stored.stride


def test_walked_maps_are_those_of_the_stage(model: wsss.Model, run: wsss.RunResults) -> None:
    for name in run.images("train"):
        walked = model.walk(run.image(name), run.cam(name))
        np.testing.assert_allclose(walked.maps, run.cam(name, "walk").maps, atol=HALF_STEP)


def test_a_walk_by_hand_is_that_of_the_stage(model: wsss.Model, run: wsss.RunResults) -> None:
    cam, near = run.cam(NAME), model.affinities(run.image(NAME))
    assert near.stride == cam.stride == 4
    walked = wsss.random_walk(cam.small, near, beta=8.0, steps=2**3)
    walked /= walked.max((1, 2), keepdims=True) + 1e-5
    np.testing.assert_allclose(walked, run.cam(NAME, "walk").small, atol=HALF_STEP)
    large = wsss.enlarge(walked, run.truth(NAME).shape, near.stride)
    np.testing.assert_allclose(large, run.cam(NAME, "walk").maps, atol=HALF_STEP)


def test_predictions_are_those_of_the_stage(model: wsss.Model, run: wsss.RunResults) -> None:
    for name in run.images("val"):
        labels = model.predict(run.image(name))
        assert labels.dtype == np.uint8
        assert (labels != run.labels("segmentation", name)).mean() < 0.001  # ties alone


def test_whatever_holds_pixels_gives_the_same_maps(model: wsss.Model, run: wsss.RunResults) -> None:
    image = run.image(NAME)
    labels = run.image_labels(NAME)
    expected, mask = model.cam(image, labels).maps, model.predict(image)
    read_only = image.copy()
    read_only.flags.writeable = False
    wide = np.zeros((image.shape[0], 2 * image.shape[1], 3), np.uint8)
    wide[:, ::2] = image
    for pixels in (
        image.tolist(),
        read_only,
        wide[:, ::2],
        np.asarray(Image.fromarray(image)),
        Image.fromarray(image),
        torch.from_numpy(image),
        torch.from_numpy(image).permute(2, 0, 1).float().requires_grad_(),
        image / 255,
        image.astype(np.int64),
    ):
        np.testing.assert_array_equal(model.cam(pixels, labels).maps, expected)
        np.testing.assert_array_equal(model.predict(pixels), mask)


def test_a_file_is_an_image(model: wsss.Model, run: wsss.RunResults, tmp_path: Path) -> None:
    image = run.image("val-00000")
    Image.fromarray(image).save(tmp_path / "photo.png")
    for path in (tmp_path / "photo.png", str(tmp_path / "photo.png")):
        np.testing.assert_array_equal(model.predict(path), model.predict(image))


def test_without_labels_the_probable_classes_have_maps(
    model: wsss.Model, run: wsss.RunResults
) -> None:
    image = run.image(NAME)
    probable = model.probabilities(image)
    assert tuple(probable) == model.classes == run.classes
    chosen = tuple(name for name, value in probable.items() if value > 0.5)
    assert model.cam(image).classes == chosen
    assert model.cam(image, "cat").classes == ("cat",)
    assert model.cam(image, []).maps.shape == (0, *image.shape[:2])


def test_what_a_run_lacks_is_named(
    model: wsss.Model, run: wsss.RunResults, other_study: Path
) -> None:
    image = run.image(NAME)
    with pytest.raises(ConfigError, match="'dog' is not a class of .* cat, hare, mouse"):
        model.cam(image, ["dog"])
    with pytest.raises(DatasetError, match="the image has"):
        model.walk(image[:20], run.cam(NAME))
    partial = wsss.load(RUN, root=other_study)
    assert partial.cam(image, "cat").maps.shape[1:] == image.shape[:2]
    with pytest.raises(MissingError, match=r"segmenter.safetensors is missing"):
        partial.predict(image)
    with pytest.raises(ConfigError, match="It can be 'auto' or 'cpu'"):
        wsss.load(RUN, root=other_study, device="gpu")  # type: ignore[arg-type]
