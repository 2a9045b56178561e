"""From label images and class maps to numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from wsss.api.arrays import check_same_size, class_maps, label_image, plain_array
from wsss.errors import ConfigError, DatasetError
from wsss.scores import metrics

Convention = Literal["A", "B", "C", "D"]
Unlabelled = Literal["background", "missed", "excluded"]
LabelImage = ArrayLike | Image.Image


class Curve(NamedTuple):
    """The mean IoU, in [0, 1], at each background threshold, in [0, 1]; both arrays are (T,)."""

    thresholds: NDArray[np.float32]
    miou: NDArray[np.float64]


def seed(
    maps: ArrayLike, labels: ArrayLike, threshold: float | NDArray[np.floating]
) -> NDArray[np.uint8]:
    """Return the label image (H, W) of class maps: each pixel takes its strongest class, or background.

    maps: (K, H, W) in [0, 1]. labels: (K,), the label of each map in label images, from 1. threshold: a
    pixel whose largest score is not above it is background, 0; a number, or a map (H, W) such as
    `ClassMaps.background`.

    Raises:
        DatasetError: maps and labels do not fit together.
    """
    values = class_maps(maps)
    level = plain_array(threshold).astype(np.float32)
    if level.ndim:
        check_same_size(level, values, "threshold and maps")
    return metrics.seed(values, _class_numbers(labels, len(values)), level)


def _class_numbers(labels: ArrayLike, count: int) -> NDArray[np.int16]:
    """Return class numbers (K,) from 0, of labels from 1; an empty list is one without classes."""
    numbers: NDArray[np.int16] = label_image(plain_array(labels).reshape(1, -1))[0].astype(np.int16)
    if len(numbers) != count:
        raise DatasetError(
            f"There are {count} maps and {len(numbers)} labels. Give one label a map."
        )
    if (numbers == 0).any():
        raise DatasetError("A map has the label 0, which is background. Classes begin at 1.")
    numbers -= 1
    return numbers


def confusion(
    truth: LabelImage,
    labels: LabelImage,
    classes: int,
    unlabelled: Unlabelled | None = None,
) -> NDArray[np.int64]:
    """Return the number of pixels by true and predicted label, (classes, classes).

    truth, labels: label images (H, W); pixels with the true label 255 are left out. classes: their number,
    background included: 21 for PASCAL VOC. unlabelled: how a predicted 255 counts. background: as label
    0 (IRNet, CRT). missed: in no class, which adds a column (SEAM, MCTformer, PCSS). excluded: left out,
    which flatters (ToCo). None: such a pixel is an error. Matrices of several images may be added.

    Raises:
        DatasetError: the images differ in size, or a label is above `classes` - 1.
    """
    _check_choice(unlabelled, "unlabelled", (None, "background", "missed", "excluded"))
    _check_classes(classes)
    true, predicted = label_image(truth, "truth"), label_image(labels)
    check_same_size(true, predicted, "truth and labels")
    return metrics.confusion(true, predicted, classes, unlabelled)


def mean_iou(counts: ArrayLike, convention: Convention = "A") -> float:
    """Return the mean over classes of intersection over union, in [0, 1].

    counts: of `confusion`, or a sum of such. convention: which classes are averaged. A, D: those in truth
    or prediction (chainercv, IRNet). B: those in the truth (deeplab-pytorch, ToCo). C: all, absent ones as 0
    (SEAM, MCTformer, PCSS).
    """
    _check_choice(convention, "convention", ("A", "B", "C", "D"))
    return float(metrics.mean_iou(_counts(counts), convention))


def class_iou(counts: ArrayLike) -> NDArray[np.float64]:
    """Return the intersection over union of each label, (classes,) in [0, 1]; nan for absent labels.

    counts: of `confusion`, or a sum of such.
    """
    return metrics.class_scores(_counts(counts))["iou"]


def _counts(counts: ArrayLike) -> NDArray[np.int64]:
    matrix = plain_array(counts)
    if matrix.ndim != 2 or matrix.shape[1] - matrix.shape[0] not in (0, 1):
        raise DatasetError(f"counts has the shape {matrix.shape}. Give a matrix of `confusion`.")
    return matrix.astype(np.int64)


def threshold_curve(
    images: Iterable[tuple[LabelImage, ArrayLike, ArrayLike]],
    classes: int,
    thresholds: int | Sequence[float] = 100,
    convention: Convention = "A",
) -> Curve:
    """Return the mean IoU of class maps at every background threshold, from one pass over images.

    images: of each image its truth (H, W), its maps (K, H, W) in [0, 1] and their labels (K,) from 1; a
    generator keeps one image in memory. classes: number of labels, background included. thresholds: a
    number T of them, k / T for k = 0 .. T - 1, or their values. convention: as in `mean_iou`.

    Raises:
        DatasetError: the arrays of an image do not fit together, or there are no thresholds.
    """
    _check_choice(convention, "convention", ("A", "B", "C", "D"))
    _check_classes(classes)
    levels = (
        metrics.thresholds(thresholds)
        if isinstance(thresholds, int)
        else np.asarray(thresholds, np.float32)
    )
    if levels.ndim != 1 or not levels.size:
        raise DatasetError("There are no thresholds. Give a number above 0, or a list of values.")
    order = np.argsort(levels, kind="stable")
    curve = metrics.ThresholdCurve(classes, levels[order])
    for truth, maps, labels in images:
        true, values = label_image(truth, "truth"), class_maps(maps)
        check_same_size(true, values, "truth and maps")
        numbers = _class_numbers(labels, len(values))
        if (numbers >= classes - 1).any():
            raise DatasetError(f"A map has a label above {classes - 1}, the last class.")
        curve.add(true, values, numbers)
    return Curve(levels, metrics.mean_iou(curve.matrices()[np.argsort(order)], convention))


def _check_classes(classes: int) -> None:
    if not 1 <= classes <= 255:
        raise ConfigError(
            f"classes is {classes}. Give the number of labels with background: 1 to 255."
        )


def _check_choice(value: str | None, name: str, choices: Sequence[str | None]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}. It can be {', '.join(map(repr, choices))}.")
