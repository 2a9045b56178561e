"""Scores of arrays."""

import numpy as np
import pytest
import torch
from PIL import Image

import wsss
from wsss.errors import ConfigError, DatasetError

TRUTH = np.array([[0, 1, 1], [2, 255, 0]], np.uint8)
LABELS = np.array([[0, 1, 2], [2, 1, 1]], np.uint8)


def test_a_confusion_matrix_counts_true_and_predicted_labels() -> None:
    expected = [[1, 1, 0], [0, 1, 1], [0, 0, 1]]
    for truth, labels in (
        (TRUTH, LABELS),
        (TRUTH.tolist(), LABELS.tolist()),
        (torch.from_numpy(TRUTH).long(), torch.from_numpy(LABELS).float()),
        (Image.fromarray(TRUTH), Image.fromarray(LABELS).convert("P")),
        (TRUTH.T.copy().T, LABELS[::-1][::-1]),
    ):
        counts = wsss.confusion(truth, labels, 3)
        np.testing.assert_array_equal(counts, expected)
    np.testing.assert_allclose(wsss.class_iou(counts), [1 / 2, 1 / 3, 1 / 2])
    assert wsss.mean_iou(counts) == pytest.approx(4 / 9)
    assert wsss.mean_iou(counts.tolist(), "C") == pytest.approx(4 / 9)


def test_a_predicted_255_counts_as_it_is_told() -> None:
    labels = LABELS.copy()
    labels[0, 0] = 255
    with pytest.raises(DatasetError, match="above 2"):
        wsss.confusion(TRUTH, labels, 3)
    assert wsss.confusion(TRUTH, labels, 3, "background")[0, 0] == 1
    assert wsss.confusion(TRUTH, labels, 3, "missed").shape == (3, 4)
    assert wsss.mean_iou(wsss.confusion(TRUTH, labels, 3, "missed")) < 4 / 9
    with pytest.raises(ConfigError, match="unlabelled is 'ignored'. It can be None, 'background'"):
        wsss.confusion(TRUTH, labels, 3, "ignored")  # type: ignore[arg-type]


def test_a_seed_is_the_strongest_class_above_the_threshold() -> None:
    maps = [[[0.2, 0.8, 0.4]], [[0.1, 0.3, 0.9]]]
    np.testing.assert_array_equal(wsss.seed(maps, [3, 7], 0.4), [[0, 3, 7]])
    levels = np.array([[0.1, 0.9, 0.4]])
    np.testing.assert_array_equal(wsss.seed(maps, [3, 7], levels), [[3, 0, 7]])
    with pytest.raises(DatasetError, match="threshold and maps differ in size"):
        wsss.seed(maps, [3, 7], levels.T)
    np.testing.assert_array_equal(wsss.seed(np.zeros((0, 1, 3)), [], 0.4), [[0, 0, 0]])
    with pytest.raises(DatasetError, match="2 maps and 1 labels"):
        wsss.seed(maps, [3], 0.4)
    with pytest.raises(DatasetError, match="label 0, which is background"):
        wsss.seed(maps, [0, 1], 0.4)


def test_a_curve_has_the_score_of_every_threshold_in_the_given_order() -> None:
    generator = np.random.default_rng(0)
    images = [
        (generator.integers(0, 3, (6, 7)), generator.random((2, 6, 7)), [1, 2]) for _ in range(3)
    ]
    levels, miou = wsss.threshold_curve(iter(images), 3, thresholds=[0.9, 0.1, 0.5])
    for level, value in zip(levels, miou, strict=True):
        counts = sum(
            wsss.confusion(truth, wsss.seed(maps, labels, level), 3)
            for truth, maps, labels in images
        )
        assert value == pytest.approx(wsss.mean_iou(counts))
    assert wsss.threshold_curve(images, 3).thresholds.shape == (100,)
    with pytest.raises(DatasetError, match="no thresholds"):
        wsss.threshold_curve(images, 3, thresholds=[])
    with pytest.raises(DatasetError, match="label above 1"):
        wsss.threshold_curve(images, 2)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (TRUTH[None], r"truth has the shape \(1, 2, 3\)"),
        (TRUTH / 2, "no whole numbers"),
        (TRUTH.astype(int) - 1, "no whole numbers"),
        ([["a"]], "Give an array of numbers"),
        ([[1, 2], [3]], "do not form an array"),
        (TRUTH[:, :2], r"differ in size: \(2, 2\) and \(2, 3\)"),
    ],
)
def test_what_is_no_label_image_is_one_line(truth: object, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        wsss.confusion(truth, LABELS, 3)
    assert "\n" not in str(caught.value)


def test_wrong_choices_are_named() -> None:
    with pytest.raises(ConfigError, match="convention is 'E'"):
        wsss.mean_iou(np.eye(3), "E")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="classes is 0"):
        wsss.confusion(TRUTH, LABELS, 0)
    with pytest.raises(DatasetError, match="counts has the shape"):
        wsss.class_iou(np.ones((3, 5)))
