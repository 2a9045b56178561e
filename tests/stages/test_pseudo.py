"""Pseudo labels with a background that is the complement of the maps, and with confident pixels alone."""

from pathlib import Path

import numpy as np
import pytest
import torch

from wsss.data.images import load_entry
from wsss.data.index import Entry, Index
from wsss.errors import ConfigError
from wsss.methods.frozen.labels import label_maps
from wsss.refine import crf
from wsss.settings import PseudoParams
from wsss.settings.resolve import validate_params
from wsss.stages.pseudo import label, label_task, wrapped_picture
from wsss.storage import archive
from wsss.storage.cam_archive import Cam, pack

SURE = {
    "source": "cam",
    "background": "complement",
    "threshold": 0.5,
    "crf": "deeplab_msc",
    "confident": 0.95,
}

PAR = {"source": "cam", "background": "complement", "threshold": 0.5, "par": 20}


@pytest.fixture
def maps(squares: Index, tmp_path: Path) -> tuple[Path, Entry, Cam]:
    """Return an archive with the maps of one image, the image and its CAM."""
    entry = next(entry for entry in squares.training() if len(entry.labels) == 2)
    scores = np.random.default_rng(0).random((2, *entry.size)).astype(np.float16)
    cam = Cam(np.array(squares.numbers(entry.labels), np.int16), scores, entry.size, 1)
    with archive.Writer(tmp_path / "cam.zip") as writer:
        writer.add(f"{entry.name}.npz", pack(cam))
    return tmp_path / "cam.zip", entry, cam


def test_the_background_is_what_the_maps_leave(maps: tuple[Path, Entry, Cam]) -> None:
    path, entry, cam = maps
    task = label_task(path, PseudoParams.model_validate(SURE), 4, entry)
    scores = cam.full()
    rest = crf.scores_unary(1 - scores.max(0, keepdims=True))
    assert task.crf is not None
    assert np.array_equal(task.crf.energies[0], np.concatenate([rest, crf.scores_unary(scores)]))
    names = np.array([0, *(cam.labels + 1)])
    complete = np.concatenate([1 - scores.max(0, keepdims=True), scores])
    assert np.array_equal(task.before[0], names[complete.argmax(0)])


@pytest.mark.parametrize("device", [None, "cpu"])
def test_pixels_that_the_crf_is_not_sure_of_get_no_label(
    maps: tuple[Path, Entry, Cam], device: str | None
) -> None:
    if device is None:
        pytest.importorskip("pydensecrf")
    path, entry, _ = maps
    params = PseudoParams.model_validate(SURE)
    everywhere = label(path, params.model_copy(update={"confident": None}), 4, entry, device)
    task = label_task(path, params, 4, entry)
    assert task.crf is not None
    (posterior,) = crf.infer(task.crf.picture, list(task.crf.energies), params.crf, device)
    expected = np.where(posterior.max(0) < 0.95, 255, everywhere)
    assert 0.01 < (expected == 255).mean() < 0.99
    assert np.array_equal(label(path, params, 4, entry, device), expected)


@pytest.mark.parametrize("device", [None, "cpu"])
def test_par_gives_the_labels_that_weclip_and_excel_learn_from(
    maps: tuple[Path, Entry, Cam], device: str | None
) -> None:
    path, entry, cam = maps
    params = PseudoParams.model_validate(PAR)
    image = torch.from_numpy(load_entry(entry)).permute(2, 0, 1)[None] / 255
    scores, present = torch.zeros(1, 3, *entry.size), torch.zeros(1, 3)
    scores[0, cam.labels], present[0, cam.labels] = torch.from_numpy(cam.full()), 1
    expected = label_maps(image, scores, present, PAR["par"])[0].numpy()
    labels = label(path, params, 4, entry, device)
    assert np.array_equal(labels, expected)
    before = label(path, params.model_copy(update={"par": 0}), 4, entry)
    assert 0.1 < (labels != before).mean() < 0.9
    assert set(np.unique(labels)) <= {0, *(cam.labels + 1)}


def test_par_leaves_an_image_without_classes_to_background(squares: Index, tmp_path: Path) -> None:
    entry = squares.training()[0]
    empty = Cam(np.zeros(0, np.int16), np.zeros((0, *entry.size), np.float16), entry.size, 1)
    with archive.Writer(tmp_path / "cam.zip") as writer:
        writer.add(f"{entry.name}.npz", pack(empty))
    labels = label(tmp_path / "cam.zip", PseudoParams.model_validate(PAR), 4, entry)
    assert not labels.any()


def test_par_of_a_constant_background_raises_no_map_above_it(
    maps: tuple[Path, Entry, Cam],
) -> None:
    path, entry, _ = maps
    changes = {**PAR, "background": "threshold", "threshold": 1.0}
    assert not label(path, PseudoParams.model_validate(changes), 4, entry).any()


def test_a_wrapped_picture_is_blue_first_and_bright_where_it_was_dark() -> None:
    image = np.array([[[130, 120, 110], [122, 116, 104], [0, 0, 0], [255, 255, 255]]], np.uint8)
    expected = [[5, 3, 7], [0, 0, 0], [152, 140, 134], [150, 138, 132]]
    assert wrapped_picture(image)[0].tolist() == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 0.3}, "background 'complement' .*: set threshold to 0.5"),
        ({"threshold": "calibrated"}, "set threshold to 0.5"),
        ({"crf": "none"}, "confident is a probability after the CRF: set crf"),
        ({"par": 20}, "par and crf exclude each other: set par to 0, or crf to none"),
    ],
)
def test_settings_that_would_have_no_effect_are_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        validate_params({"pseudo": {**SURE, **changes}})
