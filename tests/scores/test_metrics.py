"""Laws of the scores, and agreement with the plain way of computing them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss.errors import DatasetError
from wsss.scores.metrics import (
    ThresholdCurve,
    class_scores,
    confusion,
    early_stop,
    erode,
    image_average_precision,
    image_f1,
    label_recall,
    mean_average_precision,
    mean_iou,
    pixel_scores,
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


def test_a_prediction_of_255_is_background_or_missed_or_left_out_as_asked() -> None:
    truth, prediction = np.array([0, 0, 1, 1, 255]), np.array([0, 255, 255, 1, 255])
    assert confusion(truth, prediction, 2, "background").tolist() == [[2, 0], [1, 1]]
    assert confusion(truth, prediction, 2, "missed").tolist() == [[1, 0, 1], [0, 1, 1]]
    assert confusion(truth, prediction, 2, "excluded").tolist() == [[1, 0], [0, 1]]
    scores = class_scores(confusion(truth, prediction, 2, "missed"))
    assert scores["iou"].tolist() == [0.5, 0.5]
    assert scores["precision"].tolist() == [1, 1]
    assert scores["false_positive"].tolist() == [0, 0]


@pytest.mark.parametrize("unlabelled", [None, "background", "missed", "excluded"])
def test_without_255_every_treatment_scores_alike(unlabelled: str | None) -> None:
    counts = confusion(*random_masks(5), CLASSES, unlabelled)
    for convention in "ABCD":
        expected = mean_iou(confusion(*random_masks(5), CLASSES), convention)
        assert mean_iou(counts, convention) == expected


def test_counts_do_not_wrap_above_two_billion_pixels() -> None:
    counts = confusion(np.zeros((1, 4)), np.zeros((1, 4)), 2)
    assert counts.dtype == np.int64
    assert mean_iou(counts * 2**40, "B") == 1


@given(st.integers(0, 10_000))
@settings(max_examples=25)
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
    assert mean_iou(counts, "D") == mean_iou(counts, "A")


def test_false_shares_and_iou_fill_the_union() -> None:
    scores = class_scores(confusion(*random_masks(8), CLASSES))
    shares = scores["iou"] + scores["false_positive"] + scores["false_negative"]
    assert shares == pytest.approx(1)


def test_pixel_scores_of_a_known_matrix() -> None:
    scores = pixel_scores(np.array([[6, 0, 2], [0, 2, 0], [0, 0, 0]]))
    assert scores["pixel_accuracy"] == pytest.approx(8 / 10)
    assert scores["mean_accuracy"] == pytest.approx((6 / 8 + 1) / 2)
    assert scores["frequency_iou"] == pytest.approx(0.8 * 6 / 8 + 0.2 * 1)
    assert set(pixel_scores(np.zeros((2, 2), np.int64)).values()) == {0}


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


def test_average_precision_per_image_is_not_that_per_class() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.6]])
    truth = np.array([[True, False], [True, False], [False, False]])
    assert image_average_precision(scores, truth) == pytest.approx((1 + 1 / 2) / 2)
    assert mean_average_precision(scores, truth) == pytest.approx((1 + 2 / 3) / 2)


def test_found_labels_are_counted_by_image_and_by_class() -> None:
    truth = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0]], bool)
    found = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 0]], bool)
    assert image_f1(found, truth) == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert label_recall(found, truth) == pytest.approx((2 / 4, (2 / 3 + 0) / 2))
    assert label_recall(found, np.zeros_like(truth)) == (0, 0)


def test_a_sweep_that_stops_early_misses_a_later_maximum() -> None:
    assert early_stop([0.0, 0.1, 0.2, 0.3], [1, 2, 2, 9]) == (0.1, 2, 3)
    assert early_stop([0.0, 0.1, 0.2], [1, 2, 3]) == (0.2, 3, 3)


def test_erosion_cuts_every_class_alike_but_not_at_the_border() -> None:
    labels = np.zeros((9, 12), np.uint8)
    labels[:, 6:] = 3
    expected = np.zeros_like(labels)
    expected[:, 7:] = 3
    assert np.array_equal(erode(labels, 3), expected)
    assert np.array_equal(erode(np.full((9, 12), 3, np.uint8), 7), np.full((9, 12), 3))
