"""Overlays and panels: the right pixels in the right colours."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_run import make_dataset, make_run
from PIL import Image

from wsss.data.index import Index, load_index
from wsss.errors import DatasetError, MissingError
from wsss.report.figures import panels
from wsss.report.gallery.side_by_side import panel
from wsss.runs.run import Run
from wsss.settings.resolve import validate_params

NAMES = ("red", "a class with a very long name indeed, longer than any column", "犬 <b>$x$</b>")

TRAINING, VALIDATION = ("cam", "seed", "pseudo"), ("segmentation",)


@pytest.fixture
def run(squares: Index, work: Path) -> Run:
    """Return a made run of the CAM method."""
    made = Run.parse("shapes/cam/common/s0", validate_params({"datasets": ["shapes"]}))
    make_run(made, make_dataset(squares, "shapes", made.params, NAMES))
    return made


def test_names_are_spread_over_the_sorted_list() -> None:
    names = [f"{number:03d}" for number in range(100)]
    assert panels.choose(reversed(names), 4) == ["012", "037", "062", "087"]
    assert panels.choose(names[:3], 8) == names[:3]
    assert panels.choose([], 8) == []


def test_an_overlay_tints_labels_over_a_pale_grey_picture() -> None:
    image = np.full((2, 3, 3), (90, 100, 110), np.uint8)
    labels = np.array([[0, 1, 255], [0, 2, 0]], np.uint8)
    tinted = panels.overlay(image, labels, strength=0.5)
    assert tinted[0, 1].tolist() == [114, 50, 50]  # halfway to the palette's (128, 0, 0)
    assert tinted[1, 1].tolist() == [50, 114, 50]
    assert tinted[0, 2].tolist() == list(panels.OPEN)
    background = tinted[labels == 0].astype(int)
    assert (background == background[0, 0]).all()  # grey
    assert 100 < background[0, 0] < 255


def test_an_overlay_refuses_labels_of_another_size() -> None:
    with pytest.raises(DatasetError, match="do not fit"):
        panels.overlay(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8))


def test_heat_grows_with_the_score() -> None:
    image = np.full((1, 5, 3), 90, np.uint8)
    warm = panels.heat(image, np.linspace(0, 1, 5, dtype=np.float32)[None])
    assert (np.diff(warm.astype(int).sum(-1)[0]) > 0).all()


def widest(index: Index, names: Sequence[str]) -> int:
    """Return the width of the widest of these small images once enlarged, pixels."""
    entries = panels.chosen(index, names)
    return max(entry.size[1] * (panels.CELL // max(entry.size)) for entry in entries)


def columns(panel: Image.Image, count: int) -> list[np.ndarray]:
    """Return the first row of pictures of a panel, cut off at 90 pixels."""
    pixels = np.asarray(panel)
    side = (panel.width - panels.GAP) // count
    rows = slice(panels.HEAD, panels.HEAD + 90)
    pictures = [pixels[rows, panels.GAP + n * side :] for n in range(count)]
    return [picture[:, : side - panels.GAP] for picture in pictures]


def test_a_training_panel_follows_an_image_from_picture_to_truth(run: Run) -> None:
    index = load_index(run.index)
    names = panels.choose((entry.name for entry in index.split("train")), 3)
    drawn = panel(run, index, TRAINING, names)
    assert drawn.width == 5 * (widest(index, names) + panels.GAP) + panels.GAP
    image, cam, seed, pseudo, truth = columns(drawn, 5)
    pictures = [image, cam, seed, pseudo, truth]
    assert all((one != other).any() for one, other in zip(pictures, pictures[1:], strict=False))
    # The made maps are mostly right, so the pseudo label is nearer to the truth than the image is.
    far, near = (np.abs(each.astype(int) - truth).mean() for each in (image, pseudo))
    assert near < far


def test_a_validation_panel_shows_no_labels_the_network_did_not_predict(run: Run) -> None:
    index = load_index(run.index)
    names = [entry.name for entry in index.split("val")]
    drawn = panel(run, index, VALIDATION, names)
    assert drawn.width == 3 * (widest(index, names) + panels.GAP) + panels.GAP


def test_long_heads_take_several_lines_and_narrow_pictures_stay_below_theirs() -> None:
    index = Index("narrow", ("a",), ())
    tall = panels.Row(np.zeros((400, 3, 3), np.uint8))
    short = panels.sheet(index, ["image"], [tall])
    wrapped = panels.sheet(index, ["the segmentation of a variant of a method"], [tall])
    assert short.width == wrapped.width == panels.CELL // 2 + 2 * panels.GAP
    lines = (wrapped.height - short.height) // panels.HEAD_LINE
    assert lines * panels.HEAD_LINE == wrapped.height - short.height > panels.HEAD_LINE
    middle, top = panels.GAP + panels.CELL // 4, panels.HEAD
    assert np.asarray(short)[top + 50, middle].tolist() == [0, 0, 0]


def test_a_panel_is_the_same_every_time(run: Run) -> None:
    index = load_index(run.index)
    names = [entry.name for entry in index.split("train")][:2]
    first, second = (panel(run, index, TRAINING, names).tobytes() for _ in range(2))
    assert first == second


def test_an_image_without_a_mask_has_an_empty_truth(run: Run) -> None:
    index = load_index(run.index)
    bare = replace(index, images=tuple(replace(entry, mask=None) for entry in index.images))
    name = index.split("val")[0].name
    truth = columns(panel(run, bare, VALIDATION, [name]), 3)[2]
    middle = truth.shape[1] // 2
    assert (truth[:, middle - 40 : middle + 40] == panels.NOTHING).all()


def test_an_image_that_is_not_in_the_index_is_named(run: Run) -> None:
    with pytest.raises(DatasetError, match="has no image 'nobody'"):
        panel(run, load_index(run.index), VALIDATION, ["nobody"])


def test_maps_that_are_not_there_are_named(run: Run) -> None:
    run.path("cam.zip").unlink()
    index = load_index(run.index)
    with pytest.raises(MissingError, match=r"cam\.zip is missing"):
        panel(run, index, TRAINING, [index.split("train")[0].name])
