"""CRF and random walk on arrays: the results of the stages, and one line for what cannot be."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import wsss
from wsss.errors import ConfigError, DatasetError
from wsss.refine.affinity import pair_affinities, path_affinities

pytest.importorskip("pydensecrf")

RUN = "shapes/cam/common/s0"


def test_the_crf_of_stored_maps_is_what_the_pseudo_stage_wrote(study: Path) -> None:
    run = wsss.open_run(RUN, root=study)
    changed = 0
    for name in run.images("train"):
        cam = run.cam(name, "walk")
        scores = np.concatenate([np.full((1, *cam.maps.shape[1:]), 0.3, np.float32), cam.maps])
        posterior = wsss.crf(run.image(name), scores, "psa")
        labels = np.array([0, *cam.labels])[posterior.argmax(0)]
        np.testing.assert_array_equal(labels, run.labels("pseudo", name))
        changed += int((labels != wsss.seed(cam.maps, cam.labels, 0.3)).sum())
    assert changed > 100


def scores(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).random((3, *shape), dtype=np.float32)


@pytest.mark.parametrize("device", [None, "cpu"])
def test_whatever_holds_pixels_and_scores_gives_the_same_posterior(device: str | None) -> None:
    image = np.random.default_rng(1).integers(0, 255, (12, 16, 3)).astype(np.uint8)
    values = scores((12, 16))
    expected = wsss.crf(image, values, "irn_label", device)
    assert type(expected) is np.ndarray
    assert expected.dtype == np.float32
    np.testing.assert_allclose(expected.sum(0), 1, atol=1e-5)
    of_pillow = np.asarray(Image.fromarray(image))
    assert not of_pillow.flags.writeable
    frozen = values.copy()
    frozen.flags.writeable = False
    for pixels, maps in (
        (of_pillow, frozen),
        (Image.fromarray(image), values.astype(np.float64)),
        (image.tolist(), values.tolist()),
        (torch.from_numpy(image), torch.from_numpy(values).requires_grad_()),
        (np.asfortranarray(image), np.asfortranarray(values)),
        (image[:, ::-1][:, ::-1], values[:, ::-1][:, ::-1]),
    ):
        np.testing.assert_array_equal(wsss.crf(pixels, maps, "irn_label", device), expected)
    np.testing.assert_array_equal(values, frozen)


def test_what_a_crf_cannot_refine_is_one_line() -> None:
    image, values = np.zeros((12, 16, 3), np.uint8), scores((12, 16))
    with pytest.raises(ConfigError, match="no CRF set 'pas'. The sets are psa, irn_label, .*codeb"):
        wsss.crf(image, values, "pas")
    with pytest.raises(
        DatasetError, match=r"image and scores differ in size: \(12, 16\) and \(16, 12"
    ):
        wsss.crf(image, values.transpose(0, 2, 1))
    with pytest.raises(DatasetError, match=r"shape \(12, 16\)"):
        wsss.crf(image, values[0])
    with pytest.raises(DatasetError, match="not finite"):
        wsss.crf(image, np.full((2, 12, 16), np.nan))
    with pytest.raises(DatasetError, match="two labels or more"):
        wsss.crf(image, values[:1])
    np.testing.assert_array_equal(wsss.crf(image, values, "none"), values)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda: wsss.crf(np.zeros((4, 4, 3)), np.ones((2, 4, 4)), device="gpu"),
            "device is 'gpu'.",
        ),
        (lambda: wsss.affinities(np.ones((4, 4)), radius=1), "radius is 1. Give a number of 2"),
        (lambda: wsss.random_walk(np.ones((1, 4, 4)), {}, steps=-1), "steps is -1. Give a number"),
        (lambda: wsss.cells(np.ones((1, 4, 4)), 0), "stride is 0. Give a number of 1 or more"),
    ],
)
def test_numbers_that_make_no_sense_are_one_line(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ask()


def test_affinities_are_those_of_psa_and_irnet() -> None:
    features = np.random.default_rng(2).random((4, 9, 11), dtype=np.float32)
    for values, formula in ((features, pair_affinities), (features[0], path_affinities)):
        near = wsss.affinities(values, radius=3)
        assert near.grid == (9, 11)
        for offset, part in formula(torch.from_numpy(values)[None], 3):
            np.testing.assert_array_equal(near.pairs[offset], part[0].numpy())
    with pytest.raises(DatasetError, match=r"shape \(11,\)"):
        wsss.affinities(features[0, 0])


def test_a_walk_stays_within_an_edge_and_takes_plain_mappings() -> None:
    edges = np.zeros((8, 8), np.float32)
    edges[:, 4] = 1.0
    maps = np.zeros((1, 8, 8), np.float32)
    maps[0, 3, 1] = 1.0
    near = wsss.affinities(edges, radius=2)
    walked = wsss.random_walk(maps, near, beta=1.0, steps=64)
    assert walked[0, :, :4].min() > 0
    assert walked[0, :, 5:].max() == 0
    pairs = {offset: part.tolist() for offset, part in near.pairs.items()}
    np.testing.assert_array_equal(wsss.random_walk(maps.tolist(), pairs, 1.0, 64), walked)
    np.testing.assert_array_equal(wsss.random_walk(torch.from_numpy(maps), near, 1.0, 0), maps)


def test_grids_that_do_not_fit_are_named() -> None:
    near = wsss.affinities(np.ones((8, 8)), radius=2)
    with pytest.raises(DatasetError, match=r"maps have the grid \(8, 9\), affinities \(8, 8\)"):
        wsss.random_walk(np.ones((1, 8, 9)), near)
    with pytest.raises(DatasetError, match=r"at the offset \(0, 1\) have the shape \(8, 8\)"):
        wsss.random_walk(np.ones((1, 8, 8)), {(0, 1): np.ones((8, 8))})


def test_cells_are_means_and_enlarged_maps_have_the_size_of_the_image() -> None:
    maps = np.arange(32, dtype=float).reshape(1, 4, 8)
    np.testing.assert_array_equal(wsss.cells(maps, 4), [[[13.5, 17.5]]])
    assert wsss.enlarge(wsss.cells(maps, 4), (4, 7), 4).shape == (1, 4, 7)


def test_pictures_show_labels_and_scores() -> None:
    image = np.full((6, 8, 3), 90, np.uint8)
    labels = np.zeros((6, 8), np.uint8)
    labels[2:4] = 1
    picture = wsss.overlay(Image.fromarray(image), labels.tolist())
    assert picture.shape == image.shape
    assert (picture[2] != picture[0]).any()
    warm = wsss.heat(image, labels / 1.0)
    assert warm[2].sum() > warm[0].sum()
