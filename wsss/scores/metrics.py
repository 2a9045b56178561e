"""Scores of label images from confusion matrices, and every threshold of a CAM in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wsss.data.labelmap import IGNORE
from wsss.errors import DatasetError

Counts = NDArray[np.int64]
Numbers = Sequence[int] | NDArray[np.int16]  # class numbers from 0


def confusion(
    truth: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    classes: int,
    unlabelled: str | None = None,
) -> Counts:
    """Count pixels of label images (H, W) by (truth, prediction), shape (classes, classes), 64-bit.

    Pixels with the true label 255 are left out. unlabelled: how a predicted 255 counts. background
    (IRNet, CRT); missed: in no class, and the matrix has one more column (SEAM, MCTformer, PCSS);
    excluded: left out like a true 255, which flatters (ToCo); None: an error.
    """
    if truth.shape != prediction.shape:
        raise DatasetError(
            f"a prediction of size {prediction.shape} is compared with a mask of {truth.shape}"
        )
    pairs = truth.astype(np.uint16) << 8 | prediction.astype(np.uint16)  # two bytes, one histogram
    joint = np.bincount(pairs.ravel(), minlength=1 << 16).reshape(256, 256)[:IGNORE]
    in_no_class = joint[:classes, IGNORE]
    counts: Counts = joint[:classes, :classes].copy()
    if unlabelled == "background":
        counts[:, 0] += in_no_class
    elif unlabelled == "missed":
        counts = np.concatenate([counts, in_no_class[:, None]], 1)
    scored = joint[:, :IGNORE] if unlabelled == "excluded" else joint
    if counts.sum() != scored.sum():
        raise DatasetError(f"a label is above {classes - 1}, the last class, and not {IGNORE}")
    return counts


def class_scores(counts: Counts) -> dict[str, NDArray[np.float64]]:
    """Return the scores (classes,) of a confusion matrix by name, in [0, 1]; nan where undefined.

    counts: (classes, classes), or with one more column for pixels in no class. false_positive: share
    of the union of truth and prediction that is prediction alone; false_negative: truth alone.
    """
    hit = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    truth, predicted = counts.sum(-1), counts.sum(-2)[..., : counts.shape[-2]]
    union = truth + predicted - hit
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "iou": hit / union,
            "precision": hit / predicted,
            "recall": hit / truth,
            "false_positive": (predicted - hit) / union,
            "false_negative": (truth - hit) / union,
        }


def pixel_scores(counts: Counts) -> dict[str, float]:
    """Return the pixel scores that deeplab-pytorch prints, by name, each in [0, 1].

    counts: as in `class_scores`. frequency_iou: mean of the classes' IoU, each weighted by the
    class's share of the true pixels.
    """
    scores, truth = class_scores(counts), counts.sum(-1)
    total = max(int(truth.sum()), 1)
    recall, iou = scores["recall"], np.nan_to_num(scores["iou"])
    return {
        "pixel_accuracy": float(np.diagonal(counts).sum() / total),
        "mean_accuracy": float(np.nanmean(recall)) if (truth > 0).any() else 0.0,
        "frequency_iou": float((truth / total * iou).sum()),
    }


def mean_iou(counts: Counts, convention: str = "A") -> NDArray[np.float64]:
    """Return the mean IoU in [0, 1] over the last two axes of `counts`, (..., classes, classes).

    convention: A averages the classes in truth or prediction (chainercv, IRNet), B the classes in
    the truth (deeplab-pytorch, ToCo), C all classes, absent ones as 0 (SEAM, MCTformer, PCSS). D
    equals A: MCTformer's segmentation computes it from a confusion matrix.
    """
    iou = class_scores(counts)["iou"]
    if convention == "C":
        return np.asarray(np.nan_to_num(iou).mean(-1))
    counted = counts.sum(-1) > 0 if convention == "B" else ~np.isnan(iou)
    total = np.where(counted, np.nan_to_num(iou), 0.0).sum(-1)
    return np.asarray(total / np.maximum(counted.sum(-1), 1))


def thresholds(count: int) -> NDArray[np.float32]:
    """Return the background scores k / count for k = 0 .. count - 1, in float32."""
    return (np.arange(count) / count).astype(np.float32)


def seed(
    maps: NDArray[np.float32],
    labels: Numbers,
    threshold: float | NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Turn class maps (K, H, W) of classes `labels` (from 0) into labels (H, W), 0 for background.

    A pixel is foreground if its largest score is above the threshold, strictly and in float32; it
    then has the first class with this score. threshold: a number, or a map (H, W).
    """
    if not len(labels):
        return np.zeros(maps.shape[1:], np.uint8)
    best = maps.argmax(0)
    foreground = maps.max(0) > np.asarray(threshold, np.float32)
    return np.where(foreground, np.asarray(labels)[best] + 1, 0).astype(np.uint8)


def erode(labels: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Shrink every class of labels (H, W), background too, by a square of `side_px`.

    Removed pixels become background; the border of the image removes none. SemFormer scores seeds
    so, with 7 px.
    """
    from scipy import ndimage  # noqa: PLC0415  # slow to import, and of use here alone

    low = ndimage.minimum_filter(labels, side_px, mode="nearest")
    high = ndimage.maximum_filter(labels, side_px, mode="nearest")
    return np.where(low == high, labels, 0).astype(np.uint8)


def early_stop(
    levels: Sequence[float] | NDArray[np.float32], values: Sequence[float] | NDArray[np.float64]
) -> tuple[float, float, int]:
    """Return threshold and mean IoU where MCTformer's sweep ends, and the thresholds it has tried.

    The sweep stops at the first threshold that does not improve strictly, so it may miss the
    maximum. It explains published values; no stage uses it to choose a threshold.
    """
    best = 0
    while best + 1 < len(values) and values[best + 1] > values[best]:
        best += 1
    return float(levels[best]), float(values[best]), min(best + 2, len(values))


class ThresholdCurve:
    """The confusion matrices of a CAM at every threshold, from one pass over the images.

    It holds the joint histogram of (truth, class, number of thresholds below the score): a pixel is
    foreground at threshold number q exactly if its score lies above more than q thresholds.
    """

    def __init__(self, classes: int, levels: NDArray[np.float32]) -> None:
        self._classes, self._levels = classes, levels
        self._histogram: Counts = np.zeros((classes, classes, len(levels) + 1), np.int64)

    def add(self, truth: NDArray[np.uint8], maps: NDArray[np.float32], labels: Numbers) -> None:
        """Count one image: truth (H, W), maps (K, H, W) of the classes `labels` (from 0)."""
        scored = truth != IGNORE
        expected = truth[scored].astype(np.int64)
        if expected.size and expected.max() >= self._classes:
            raise DatasetError(
                f"a label is above {self._classes - 1}, the last class, and not {IGNORE}"
            )
        if len(labels):
            best = np.asarray(labels, np.int64)[maps.argmax(0)[scored]] + 1
            below = np.searchsorted(self._levels, maps.max(0)[scored], side="left")
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


def mean_average_precision(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Return the mean over classes of the average precision over images, in [0, 1].

    scores, truth: (images, classes). The precision is not interpolated; classes without a positive
    image are left out.
    """
    precisions = []
    for column, positive in zip(scores.T, truth.T, strict=True):
        if positive.any():
            ranked = positive[np.argsort(-column, kind="stable")]
            precision = ranked.cumsum() / np.arange(1, len(ranked) + 1)
            precisions.append(precision[ranked].mean())
    return float(np.mean(precisions)) if precisions else 0.0


def image_average_precision(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Return the mean over images of the average precision over classes, in [0, 1].

    scores, truth: (images, classes). MCTformer and SemFormer print this as mAP. Images without a
    label are left out.
    """
    return mean_average_precision(scores.T, truth.T)


def image_f1(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return the mean over images of the F1 of their predicted classes, in [0, 1], as ToCo does.

    predicted, truth: (images, classes).
    """
    hits, total = (predicted & truth).sum(1), predicted.sum(1) + truth.sum(1)
    return float(np.mean(2 * hits / np.maximum(total, 1)))


def label_recall(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the share of the true labels that are predicted: of all, and the mean over classes.

    predicted, truth: (images, classes). Classes without a positive image are left out of the mean.
    """
    hits, positives = (predicted & truth).sum(0), truth.sum(0)
    occurs = positives > 0
    if not occurs.any():
        return 0.0, 0.0
    return float(hits.sum() / positives.sum()), float((hits[occurs] / positives[occurs]).mean())
