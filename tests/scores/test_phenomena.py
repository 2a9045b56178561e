"""Laws of the phenomena: what is missed of objects, and what is taken for them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsss.data.images import load_mask
from wsss.data.index import Entry, Index
from wsss.datasets.drawn import shapes
from wsss.runs.evaluation import ContextShare, PartRecall, SizeScores
from wsss.scores.phenomena import BOUNDS, PARTS, SIZES, Phenomena, object_scores
from wsss.settings import ShapesParams

TOLD_BY_PART = ["ambulance", "cat", "hare", "mouse", "taxi"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, Path]:
    target = tmp_path_factory.mktemp("shapes") / "images.zip"
    return shapes.draw(ShapesParams(train=42, val=6), "shapes", target), target


def mark(archive: Path, name: str, entry: Entry) -> np.ndarray:
    return load_mask(f"{archive}/{name}/{entry.name}.png") > 0


def test_true_masks_cover_every_object_and_no_context(drawn: tuple[Index, Path]) -> None:
    index, archive = drawn
    found = Phenomena(index.images, index, archive)
    for entry in index.images:
        truth = load_mask(entry.mask or "")
        found.add(entry, truth, truth)
    summary = found.summary()
    assert [each.name for each in summary.sizes] == list(SIZES)
    assert all(each.objects > 5 for each in summary.sizes)
    assert {each.iou for each in summary.sizes} == {1.0}
    assert summary.parts == tuple(
        PartRecall(name=name, part=1.0, rest=1.0) for name in TOLD_BY_PART
    )
    assert summary.contexts == tuple(
        ContextShare(name=name, context=0.0, object=1.0) for name in ("boat", "train")
    )


def test_a_prediction_of_parts_and_contexts_alone_is_seen_as_that(
    drawn: tuple[Index, Path],
) -> None:
    index, archive = drawn
    found = Phenomena(index.images, index, archive)
    for entry in index.images:
        truth = load_mask(entry.mask or "")
        labels = np.where(mark(archive, PARTS, entry), truth, 0)
        own = [name for name in ("boat", "train") if name in entry.labels]
        if own:
            labels[mark(archive, "context", entry)] = index.classes.index(own[0]) + 1
        found.add(entry, truth, labels.astype(np.uint8))
    summary = found.summary()
    assert {(each.part, each.rest) for each in summary.parts} == {(1.0, 0.0)}
    assert {(each.context, each.object) for each in summary.contexts} == {(1.0, 0.0)}


def test_without_marks_sizes_alone_are_measured(squares: Index) -> None:
    entries = squares.split("val")
    found = Phenomena(entries, squares, None)
    for entry in entries:
        found.add(entry, load_mask(entry.mask or ""), np.zeros(entry.size, np.uint8))
    assert found.summary().model_fields_set == {"sizes"}
    large = found.summary().sizes[2]
    assert (large.objects, large.recall) == (9, 0.0)
    assert found.summary().sizes[0] == SizeScores(name="small", objects=0, recall=None, iou=None)


def test_one_region_over_two_objects_is_shared_in_proportion() -> None:
    truth, labels = np.zeros((10, 20), np.uint8), np.zeros((10, 20), np.uint8)
    truth[2:4, 0:4] = truth[2:4, 10:18] = 1  # 8 and 16 pixels
    labels[2:4, 0:18] = 1  # 36: 12 for the first, 24 for the other
    labels[8:, 0:3] = 1  # touches none
    scores = object_scores(truth, labels)
    assert scores[:, 0].tolist() == [8 / 200, 16 / 200]
    assert scores[:, 1].tolist() == [1, 1]
    assert scores[:, 2] == pytest.approx([8 / 12, 16 / 24])


def test_what_is_not_known_is_neither_found_nor_missed() -> None:
    index = Index("one", ("a",), ())
    entry = Entry("x", "x.png", "m.png", ("a",), "val", (8, 8), "x")
    truth = np.full((8, 8), 255, np.uint8)
    truth[:4] = 1
    found = Phenomena([entry], index, None)
    found.add(entry, truth, np.ones((8, 8), np.uint8))
    assert found.summary().sizes[2] == SizeScores(name="large", objects=1, recall=1.0, iou=1.0)


@given(st.integers(0, 2**32 - 1))
def test_scores_of_objects_are_shares_and_areas_sum_to_the_classes(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth, labels = generator.integers(0, 3, (2, 9, 11)).astype(np.uint8)
    scores = object_scores(truth, labels)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (scores[:, 2] <= scores[:, 1] + 1e-12).all()
    assert scores[:, 0].sum() == pytest.approx((truth > 0).mean())


def test_the_drawn_objects_are_of_each_size_equally_often() -> None:
    shares: list[float] = []
    for number in range(120):
        truth = shapes.picture(ShapesParams(), "train", number).mask
        shares += object_scores(truth, truth)[:, 0].tolist()
    counts = np.bincount(np.digitize(shares, BOUNDS), minlength=3)
    assert (counts > 0.28 * len(shares)).all()
