"""Which numbers masks give to classes: any order is found, and none where masks are only noisy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss.data.agreement import disagreements
from wsss.data.index import Entry
from wsss.data.numbering import UNUSED, Flags, Masks, numbering

CLASSES = tuple("abcdefgh")


def masks(labels: Flags, numbers: list[int], table: str | None = "data.csv.x") -> Masks:
    """Return images with these labels (images, classes), in whose masks class k is numbers[k]."""
    classes = CLASSES[: labels.shape[1]]
    values = np.zeros((len(labels), 256), bool)
    values[:, 0] = True
    for number, shown in zip(numbers, labels.T, strict=True):
        values[:, number] |= shown
    entries = tuple(
        Entry(str(n), f"{n}.png", f"{n}.mask.png", names(classes, row), "train", (9, 9), str(n))
        for n, row in enumerate(labels)
    )
    return Masks(entries, classes, labels, values, table)


def names(classes: tuple[str, ...], row: Flags) -> tuple[str, ...]:
    return tuple(name for name, shown in zip(classes, row, strict=True) if shown)


def random_labels(seed: int, images: int = 60, classes: int = len(CLASSES)) -> Flags:
    """Return one to three classes for each image; the first class is in most of them."""
    generator = np.random.default_rng(seed)
    labels = np.zeros((images, classes), bool)
    labels[np.arange(images), generator.integers(0, classes, images)] = True
    labels[:, 0] |= generator.random(images) < 0.5
    labels |= generator.random(labels.shape) < 0.1
    return labels


@settings(max_examples=30)
@given(st.permutations(range(1, 9)), st.integers(0, 50))
def test_every_order_of_the_classes_is_found(order: list[int], seed: int) -> None:
    fitted = numbering(masks(random_labels(seed), order))
    assert (fitted is None) == (order == [*range(1, 9)])
    if fitted is not None:
        assert fitted.tolist() == order


@settings(max_examples=30)
@given(st.permutations(range(1, 9)), st.integers(0, 50))
def test_an_order_is_found_though_a_tenth_of_the_masks_is_wrong(
    order: list[int], seed: int
) -> None:
    images = masks(random_labels(seed, 120), order)
    for row in range(0, 120, 10):
        images.values[row] = images.values[(row + 5) % 120]
    fitted = numbering(images)
    assert (order if fitted is None else fitted.tolist()) == order


@settings(max_examples=30)
@given(st.integers(0, 200), st.floats(0, 1))
def test_masks_of_other_images_are_no_other_order(seed: int, share: float) -> None:
    images = masks(random_labels(seed), [*range(1, 9)])
    generator = np.random.default_rng(seed)
    moved = np.flatnonzero(generator.random(60) < share)
    images.values[moved] = images.values[generator.permutation(moved)]
    assert numbering(images) is None


def test_two_rare_classes_that_are_swapped_are_found() -> None:
    labels = np.zeros((200, 8), bool)
    labels[np.arange(200), np.r_[np.arange(180) % 6, [6] * 10, [7] * 10]] = True
    fitted = numbering(masks(labels, [1, 2, 3, 4, 5, 6, 8, 7]))
    assert fitted is not None
    assert fitted.tolist() == [1, 2, 3, 4, 5, 6, 8, 7]


def test_classes_that_no_mask_shows_fill_the_places_that_are_left() -> None:
    labels = np.zeros((20, 4), bool)
    labels[np.arange(20), np.arange(20) % 3] = True
    fitted = numbering(masks(labels, [4, 2, 1, 3]))
    assert fitted is not None
    assert fitted.tolist() == [4, 2, 1, UNUSED]
    (problem,) = disagreements(masks(labels, [4, 2, 1, 3]))
    assert problem.text.endswith("Set data.csv.x.classes: [c, b, d, a]")


def test_names_that_yaml_would_misread_are_quoted() -> None:
    labels = np.eye(2, dtype=bool)[np.arange(10) % 2]
    images = masks(labels, [2, 1])
    quoted = Masks(images.entries, ("no", "a: b"), labels, images.values, images.table)
    (problem,) = disagreements(quoted)
    assert problem.text.endswith("data.csv.x.classes: ['a: b', 'no']")


def test_a_public_dataset_is_to_be_unpacked_again() -> None:
    labels = np.eye(2, dtype=bool)[np.arange(10) % 2]
    (problem,) = disagreements(masks(labels, [2, 1], table=None))
    assert "Unpack the masks again" in problem.text


@pytest.mark.parametrize(("table", "severities"), [("data.csv.x", ["remark"] * 2), (None, [])])
def test_few_noisy_labels_are_remarks_and_nothing_for_a_public_dataset(
    table: str | None, severities: list[str]
) -> None:
    images = masks(np.eye(4, dtype=bool)[np.arange(100) % 4], [1, 2, 3, 4], table)
    images.values[7, 1:5] = [True, False, False, False]
    assert [problem.severity for problem in disagreements(images)] == severities


def test_all_masks_of_a_class_that_are_wrong_are_an_error_in_a_large_dataset() -> None:
    labels = np.eye(4, dtype=bool)[np.r_[np.arange(996) % 3, [3] * 4]]
    images = masks(labels, [1, 2, 3, 4], None)
    images.values[996:, 1:5] = [True, False, False, False]
    assert [problem.severity for problem in disagreements(images)] == ["error"]
