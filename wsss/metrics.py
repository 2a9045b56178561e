"""Scores of label images: one confusion matrix, and all thresholds of a CAM in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsss.data.labelmap import IGNORE
from wsss.errors import DatasetError

Counts = NDArray[np.int64]


def confusion(truth: NDArray[Any], prediction: NDArray[Any], classes: int) -> Counts:
    """Count pixels by (truth, prediction), shape (classes, classes), 64-bit.

    Pixels whose truth is 255 are left out. A prediction of 255 is an error: say before what an
    ignored pixel of a prediction shall count as.
    """
    if truth.shape != prediction.shape:
        raise DatasetError(
            f"a prediction of size {prediction.shape} is compared with a mask of {truth.shape}"
        )
    kept = truth != IGNORE
    expected, given = truth[kept].astype(np.int64), prediction[kept].astype(np.int64)
    if expected.size and max(expected.max(), given.max()) >= classes:
        raise DatasetError(f"a label is above {classes - 1}, the last class, and not {IGNORE}")
    counts = np.bincount(expected * classes + given, minlength=classes * classes)
    return counts.reshape(classes, classes)


def class_scores(counts: Counts) -> dict[str, NDArray[np.float64]]:
    """Return IoU, precision and recall (classes,) of a confusion matrix; nan where undefined."""
    hit = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    truth, predicted = counts.sum(-1), counts.sum(-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "iou": hit / (truth + predicted - hit),
            "precision": hit / predicted,
            "recall": hit / truth,
        }


def mean_iou(counts: Counts, convention: str = "A") -> NDArray[np.float64]:
    """Return the mean IoU in [0, 1] over the last two axes of `counts`.

    convention: A averages the classes in truth or prediction (chainercv, IRNet), B those in the
    truth (deeplab-pytorch, ToCo), C all of them, absent ones as 0 (SEAM, MCTformer, PCSS).
    """
    iou = class_scores(counts)["iou"]
    if convention == "C":
        return np.asarray(np.nan_to_num(iou).mean(-1))
    counted = ~np.isnan(iou) if convention == "A" else counts.sum(-1) > 0
    total = np.where(counted, np.nan_to_num(iou), 0.0).sum(-1)
    return np.asarray(total / np.maximum(counted.sum(-1), 1))


def thresholds(count: int) -> NDArray[np.float32]:
    """Return the background scores k / count for k = 0 .. count - 1, in float32."""
    return (np.arange(count) / count).astype(np.float32)


def seed(
    maps: NDArray[np.float32],
    labels: Sequence[int] | NDArray[Any],
    threshold: float | NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Turn class maps (K, H, W) of classes `labels` (from 0) into label pixels.

    A pixel is foreground if its largest score is above the threshold (a number, or one for each pixel
    (H, W)), strictly and in float32, and then has the first class with that score. Returns labels
    (H, W), 0 for background.
    """
    if not len(labels):
        return np.zeros(maps.shape[1:], np.uint8)
    best = maps.argmax(0)
    foreground = maps.max(0) > np.asarray(threshold, np.float32)
    return np.where(foreground, np.asarray(labels)[best] + 1, 0).astype(np.uint8)


class ThresholdCurve:
    """The confusion matrices of a CAM at every threshold, from one pass over the images.

    Keeps the joint histogram (truth, class, number of thresholds below the score): a pixel is
    foreground at threshold q exactly if its score lies above more than q thresholds.
    """

    def __init__(self, classes: int, levels: NDArray[np.float32]) -> None:
        self._classes, self._levels = classes, levels
        self._histogram: Counts = np.zeros((classes, classes, len(levels) + 1), np.int64)

    def add(
        self, truth: NDArray[Any], maps: NDArray[np.float32], labels: Sequence[int] | NDArray[Any]
    ) -> None:
        """Count one image: truth (H, W), maps (K, H, W) of the classes `labels` (from 0)."""
        kept = truth != IGNORE
        expected = truth[kept].astype(np.int64)
        if expected.size and expected.max() >= self._classes:
            raise DatasetError(
                f"a label is above {self._classes - 1}, the last class, and not {IGNORE}"
            )
        if len(labels):
            best = np.asarray(labels, np.int64)[maps.argmax(0)[kept]] + 1
            below = np.searchsorted(self._levels, maps.max(0)[kept], side="left")
        else:
            best, below = np.zeros_like(expected), np.zeros_like(expected)
        shape = self._histogram.shape
        joint = np.ravel_multi_index((expected, best, below), shape)
        self._histogram += np.bincount(joint, minlength=self._histogram.size).reshape(shape)

    def matrices(self) -> Counts:
        """Return the confusion matrices (thresholds, classes, classes)."""
        above = self._histogram[:, :, ::-1].cumsum(-1)[:, :, ::-1]  # pixels with at least b below
        foreground = np.moveaxis(above[:, :, 1:], -1, 0).copy()
        foreground[:, :, 0] = 0
        total = self._histogram.sum((1, 2))
        foreground[:, :, 0] = total - foreground.sum(-1)
        return foreground


def mean_average_precision(scores: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    """Return the mean over classes of the average precision over images, in [0, 1].

    scores, truth: (images, classes). Non-interpolated; classes without a positive image are left out.
    """
    found = []
    for column, positive in zip(scores.T, truth.T, strict=True):
        if positive.any():
            ranked = positive[np.argsort(-column, kind="stable")]
            precision = ranked.cumsum() / np.arange(1, len(ranked) + 1)
            found.append(precision[ranked].mean())
    return float(np.mean(found)) if found else 0.0
