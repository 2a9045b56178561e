"""Laws of the drawn pictures: same seed same bytes, exact masks, parts and contexts as promised."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from wsss.data.images import load_image, load_mask
from wsss.data.index import Index
from wsss.datasets.drawn import shapes
from wsss.datasets.drawn.outlines import FIGURES
from wsss.settings import ShapesParams
from wsss.storage.archive import Reader

SMALL = ShapesParams(train=42, val=6)
CONTEXTUAL = {figure.name for figure in FIGURES if figure.context}
TOLD_BY_PART = {figure.name for figure in FIGURES if any(p.is_part for p in figure.pieces)}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, Path]:
    target = tmp_path_factory.mktemp("shapes") / "images.zip"
    return shapes.draw(SMALL, "shapes", target), target


def test_the_same_seed_gives_the_same_bytes(drawn: tuple[Index, Path], tmp_path: Path) -> None:
    again = shapes.draw(SMALL, "shapes", tmp_path / "images.zip")
    assert (tmp_path / "images.zip").read_bytes() == drawn[1].read_bytes()
    assert [e.checksum for e in again.images] == [e.checksum for e in drawn[0].images]


def test_another_seed_gives_other_pictures(drawn: tuple[Index, Path], tmp_path: Path) -> None:
    other = shapes.draw(SMALL.model_copy(update={"seed": 1}), "shapes", tmp_path / "images.zip")
    assert not {e.checksum for e in other.images} & {e.checksum for e in drawn[0].images}


def test_a_picture_does_not_depend_on_how_many_there_are(
    drawn: tuple[Index, Path], tmp_path: Path
) -> None:
    fewer = shapes.draw(ShapesParams(train=5, val=1), "shapes", tmp_path / "images.zip")
    by_name = {entry.name: entry.checksum for entry in drawn[0].images}
    assert all(by_name[entry.name] == entry.checksum for entry in fewer.images)


def test_no_picture_is_in_both_splits(drawn: tuple[Index, Path]) -> None:
    assert len({entry.checksum for entry in drawn[0].images}) == SMALL.train + SMALL.val


def test_labels_are_the_classes_of_the_mask(drawn: tuple[Index, Path]) -> None:
    index = drawn[0]
    for entry in index.images:
        mask = load_mask(entry.mask or "")
        assert load_image(entry.path).shape[:2] == mask.shape == entry.size
        assert [label + 1 for label in index.numbers(entry.labels)] == np.unique(
            mask[mask > 0]
        ).tolist()
        assert 1 <= len(entry.labels) <= 3


def test_a_context_is_there_exactly_with_its_class_and_is_background(
    drawn: tuple[Index, Path],
) -> None:
    for entry in drawn[0].images:
        context = load_mask(f"{drawn[1]}/context/{entry.name}.png")
        assert bool(context.any()) == bool(CONTEXTUAL & set(entry.labels))
        assert not context[load_mask(entry.mask or "") > 0].any()


def test_telling_parts_are_seen_on_their_objects(drawn: tuple[Index, Path]) -> None:
    index, archive = drawn
    for entry in index.images:
        parts = load_mask(f"{archive}/parts/{entry.name}.png")
        mask = load_mask(entry.mask or "")
        with_parts = {index.classes[label - 1] for label in np.unique(mask[parts > 0])}
        assert with_parts == TOLD_BY_PART & set(entry.labels)


def test_parts_cover_a_small_share_of_their_objects(drawn: tuple[Index, Path]) -> None:
    index, archive = drawn
    pixels, telling = Counter[str](), Counter[str]()
    for entry in index.images:
        parts, mask = load_mask(f"{archive}/parts/{entry.name}.png"), load_mask(entry.mask or "")
        for label in np.unique(mask[mask > 0]):
            name = index.classes[label - 1]
            pixels[name] += int((mask == label).sum())
            telling[name] += int(parts[mask == label].sum())
    for name in TOLD_BY_PART:
        assert 0.1 < telling[name] / pixels[name] < 0.5


def test_classes_are_balanced(drawn: tuple[Index, Path]) -> None:
    counts = Counter(label for entry in drawn[0].split("train") for label in entry.labels)
    assert len(counts) == len(FIGURES)
    assert min(counts.values()) >= SMALL.train // len(
        FIGURES
    )  # each is the first one equally often
    assert max(counts.values()) <= 3 * min(counts.values())


def test_classes_cover_little_and_much_of_their_pictures(drawn: tuple[Index, Path]) -> None:
    shares: list[float] = []
    for entry in drawn[0].images:
        mask = load_mask(entry.mask or "")
        shares += [float((mask == label).mean()) for label in np.unique(mask[mask > 0])]
    assert min(shares) < 0.015
    assert max(shares) > 0.2


@pytest.mark.parametrize(("low", "high"), [(80, 128), (32, 32), (50, 60), (64, 96)])
def test_sides_stay_within_the_limits_and_are_few(low: int, high: int) -> None:
    params = ShapesParams(train=8, val=1, min_px=low, max_px=high)
    sizes = {shapes.picture(params, "train", number).mask.shape for number in range(16)}
    assert len(sizes) <= 4
    assert all(low <= side <= high for size in sizes for side in size)


def test_the_archive_holds_four_members_for_each_picture(drawn: tuple[Index, Path]) -> None:
    names = Reader(drawn[1]).names()
    assert len(names) == 4 * (SMALL.train + SMALL.val)
    assert {name.split("/")[0] for name in names} == {"images", "masks", "context", "parts"}
