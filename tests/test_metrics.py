"""Laws of the scores, and agreement with the plain way of computing them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss.errors import DatasetError
from wsss.metrics import (
    ThresholdCurve,
    class_scores,
    confusion,
    mean_average_precision,
    mean_iou,
    seed,
    thresholds,
)

CLASSES = 5


def random_masks(number: int, size: tuple[int, int] = (13, 17)) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(number)
    truth = generator.integers(0, CLASSES, size).astype(np.uint8)
    prediction = generator.integers(0, CLASSES, size).astype(np.uint8)
    truth[generator.random(size) < 0.1] = 255
    return truth, prediction


def test_a_perfect_prediction_scores_one_and_a_disjoint_one_zero() -> None:
    truth = np.array([[0, 1], [2, 3]])
    assert mean_iou(confusion(truth, truth, 4)) == 1
    assert mean_iou(confusion(truth, (truth + 1) % 4, 4)) == 0


def test_ignored_pixels_never_count() -> None:
    truth, prediction = random_masks(0)
    other = np.where(truth == 255, (prediction + 1) % CLASSES, prediction)
    assert np.array_equal(confusion(truth, prediction, CLASSES), confusion(truth, other, CLASSES))


def test_a_prediction_of_255_is_an_error() -> None:
    with pytest.raises(DatasetError, match="above 4"):
        confusion(np.zeros((2, 2)), np.full((2, 2), 255), CLASSES)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_parts_add_up_and_order_does_not_matter(number: int) -> None:
    pairs = [random_masks(number + i) for i in range(3)]
    total = sum(confusion(t, p, CLASSES) for t, p in pairs)
    whole = confusion(
        *(np.concatenate(masks) for masks in zip(*reversed(pairs), strict=True)), CLASSES
    )
    assert np.array_equal(total, whole)


def test_the_three_conventions_differ_as_described() -> None:
    counts = np.zeros((4, 4), np.int64)
    counts[0, 0], counts[1, 1], counts[0, 3] = 6, 2, 2  # class 2 absent, class 3 only predicted
    assert mean_iou(counts, "A") == pytest.approx((6 / 8 + 1 + 0) / 3)
    assert mean_iou(counts, "B") == pytest.approx((6 / 8 + 1) / 2)
    assert mean_iou(counts, "C") == pytest.approx((6 / 8 + 1 + 0 + 0) / 4)


def test_precision_and_recall_are_of_the_right_axis() -> None:
    counts = confusion(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 2)
    scores = class_scores(counts)
    assert scores["precision"].tolist() == [1, 2 / 3]
    assert scores["recall"].tolist() == [0.5, 1]


def test_one_pass_equals_one_evaluation_per_threshold() -> None:
    generator = np.random.default_rng(1)
    levels = thresholds(50)
    curve = ThresholdCurve(CLASSES, levels)
    plain = np.zeros((len(levels), CLASSES, CLASSES), np.int64)
    for number in range(6):
        truth, _ = random_masks(number)
        labels = sorted(
            generator.choice(CLASSES - 1, int(generator.integers(0, 4)), replace=False).tolist()
        )
        maps = generator.random((len(labels), *truth.shape)).astype(np.float32)
        maps = np.round(maps, 2)  # scores that equal thresholds: background must win
        curve.add(truth, maps, labels)
        for place, level in enumerate(levels):
            plain[place] += confusion(truth, seed(maps, labels, level), CLASSES)
    assert np.array_equal(curve.matrices(), plain)


def test_foreground_shrinks_as_the_threshold_rises() -> None:
    truth, _ = random_masks(3)
    curve = ThresholdCurve(CLASSES, thresholds(20))
    curve.add(truth, np.random.default_rng(0).random((2, *truth.shape)).astype(np.float32), [0, 3])
    foreground = curve.matrices()[:, :, 1:].sum((1, 2))
    assert (np.diff(foreground) <= 0).all()
    assert foreground[0] > foreground[-1]


def test_a_score_equal_to_the_threshold_is_background() -> None:
    maps = np.full((1, 1, 2), 0.3, np.float32)
    maps[0, 0, 1] = np.nextafter(np.float32(0.3), np.float32(1))
    assert seed(maps, [4], 0.3).tolist() == [[0, 5]]


def test_average_precision_of_a_known_ranking() -> None:
    scores = np.array([[0.9], [0.8], [0.7], [0.6]])
    truth = np.array([[True], [False], [True], [False]])
    assert mean_average_precision(scores, truth) == pytest.approx((1 + 2 / 3) / 2)


def test_classes_without_positives_do_not_count_in_map() -> None:
    scores, truth = np.ones((3, 2)), np.array([[True, False]] * 3)
    assert mean_average_precision(scores, truth) == 1
