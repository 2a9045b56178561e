"""Laws of the kinds of mistakes: exact, apart from one another, and together all that is wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsss.errors import DatasetError
from wsss.scores.metrics import confusion
from wsss.scores.mistakes import KINDS, mistakes, near_boundary

CLASSES = 4


@st.composite
def pairs(draw: st.DrawFn) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a truth and a prediction in blocks, some of them open."""
    size = (draw(st.integers(1, 14)), draw(st.integers(1, 14)))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = np.array([*range(CLASSES), 255], np.uint8)
    found = []
    for _ in range(2):
        cells = generator.choice(values, ((size[0] + 3) // 4, (size[1] + 3) // 4))
        found.append(np.kron(cells, np.ones((4, 4), np.uint8))[: size[0], : size[1]])
    return found[0], found[1]


def near_plainly(truth: NDArray[np.uint8], distance_px: int) -> NDArray[np.bool_]:
    """Compare every pixel with every other one."""
    places = np.argwhere(np.ones_like(truth))
    apart = ((places[:, None] - places) ** 2).sum(-1) <= distance_px**2
    differs = truth.ravel()[:, None] != truth.ravel()
    return (apart & differs).any(1).reshape(truth.shape)


@given(pairs(), st.integers(0, 6))
def test_near_a_boundary_is_what_the_definition_says(
    pair: tuple[NDArray[np.uint8], NDArray[np.uint8]], distance_px: int
) -> None:
    np.testing.assert_array_equal(
        near_boundary(pair[0], distance_px), near_plainly(pair[0], distance_px)
    )


@given(pairs(), st.integers(0, 4), st.sampled_from(["background", "missed", "excluded"]))
def test_the_kinds_add_up_to_the_wrong_pixels_of_the_confusion_matrix(
    pair: tuple[NDArray[np.uint8], NDArray[np.uint8]], boundary_px: int, unlabelled: str
) -> None:
    counts = confusion(*pair, CLASSES, unlabelled)
    pixels, *kinds = mistakes(*pair, boundary_px, unlabelled).tolist()
    assert pixels == counts.sum()
    assert sum(kinds) == counts.sum() - np.trace(counts)


def test_each_kind_is_counted_where_it_is() -> None:
    truth = np.zeros((9, 30), np.uint8)
    truth[:, 10:20] = 1
    truth[:, 20:] = 2
    given_ = truth.copy()
    given_[0, 0:3] = 1  # background called a class
    given_[1, 12:16] = 0  # a class called background
    given_[2, 25:30] = 1  # a class called another
    given_[3, 9:11] = 2  # beside a boundary, one pixel on either side
    assert mistakes(truth, given_, 1).tolist() == [270, 4, 3, 5, 2]
    assert mistakes(truth, given_, 0).tolist() == [270, 4, 4, 6, 0]
    assert list(KINDS) == ["missed", "spilled", "confused", "boundary"]


def test_the_open_band_around_an_object_is_its_boundary() -> None:
    truth = np.zeros((1, 12), np.uint8)
    truth[0, 4:7] = 255
    truth[0, 7:] = 1
    assert near_boundary(truth, 2)[0].tolist() == [c in range(2, 9) for c in range(12)]
    assert mistakes(truth, np.zeros_like(truth), 2).tolist() == [9, 3, 0, 0, 2]


def test_a_predicted_255_is_what_the_protocol_says() -> None:
    truth, prediction = np.array([[0, 1, 1]], np.uint8), np.array([[255, 255, 1]], np.uint8)
    assert mistakes(truth, prediction, 0, "background").tolist() == [3, 1, 0, 0, 0]
    assert mistakes(truth, prediction, 0, "missed").tolist() == [3, 2, 0, 0, 0]
    assert mistakes(truth, prediction, 0, "excluded").tolist() == [1, 0, 0, 0, 0]


def test_an_image_without_scored_pixels_has_no_mistakes() -> None:
    void = np.full((3, 4), 255, np.uint8)
    assert mistakes(void, np.zeros_like(void), 3).tolist() == [0, 0, 0, 0, 0]


def test_a_prediction_of_another_size_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"\(2, 3\)"):
        mistakes(np.zeros((3, 2), np.uint8), np.zeros((2, 3), np.uint8), 1)
