"""The interval of the difference between two methods: a paired bootstrap over the images.

Both methods are scored on the same resampled images, so that the difficulty of an image cancels out
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13: percentile intervals).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from wsss.errors import MissingError
from wsss.randomness import rng
from wsss.scores.metrics import Counts, mean_iou
from wsss.storage.files import write_text

RESAMPLES = 1000  # Efron and Tibshirani, 14.3: at least 1000 for percentiles
PART = 50  # resamples at once: their weights of COCO's 40,000 images are 16 MB
COVERED = 0.95  # share of the resamples inside the interval
HEADS = ("image", "truth", "prediction", "pixels")

Weights = NDArray[np.float64] | NDArray[np.int64]  # how often an image is drawn


@dataclass(frozen=True)
class Gain:
    """The mIoU of one method minus the mIoU of another, with its interval over images."""

    mean: float
    low: float
    high: float


def write_images(path: Path, counts: Mapping[str, Counts]) -> None:
    """Write the confusion matrix of every image: a line for each pair of labels that occurs.

    counts: (classes, classes), or with one more column for pixels in no class, by image name.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADS)
    for name, matrix in counts.items():
        for truth, prediction in np.argwhere(matrix):
            writer.writerow((name, truth, prediction, matrix[truth, prediction]))
    write_text(path, text.getvalue())


def read_images(path: Path, names: Sequence[str], classes: int) -> csr_array:
    """Return the confusion matrices in a file, (images, classes * (classes + 1)), sparse.

    classes: their number with the background. The last column of a matrix holds pixels in no class.
    """
    places = {name: place for place, name in enumerate(names)}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = [
                (
                    places[row["image"]],
                    int(row["truth"]),
                    int(row["prediction"]),
                    int(row["pixels"]),
                )
                for row in csv.DictReader(file)
            ]
    except FileNotFoundError:
        raise MissingError(f"{path} is missing. Run `snakemake` to evaluate again.") from None
    except (KeyError, TypeError, ValueError) as error:
        raise MissingError(f"{path} is damaged ({error!r}). Delete it and run again.") from None
    image, truth, prediction, pixels = np.array(lines, np.int64).reshape(-1, 4).T
    shape = (len(names), classes * (classes + 1))
    return csr_array((pixels, (image, truth * (classes + 1) + prediction)), shape=shape)


def gain(
    method: Sequence[csr_array], baseline: Sequence[csr_array], classes: int, convention: str
) -> Gain:
    """Return the mIoU of a method minus the mIoU of the baseline, each a mean over seeds.

    method, baseline: one matrix for each seed, as from `read_images`. The draws depend on the
    number of images alone, so a table is the same every time.
    """
    images = method[0].shape[0]
    generator = rng(0, "bootstrap", images)
    mean = _difference(np.ones((1, images)), method, baseline, classes, convention)
    parts = []
    for _ in range(RESAMPLES // PART):
        weights = generator.multinomial(images, np.full(images, 1 / images), PART)
        parts.append(_difference(weights, method, baseline, classes, convention))
    low, high = np.quantile(np.concatenate(parts), [(1 - COVERED) / 2, (1 + COVERED) / 2])
    return Gain(float(mean[0]), float(low), float(high))


def _difference(
    weights: Weights,
    method: Sequence[csr_array],
    baseline: Sequence[csr_array],
    classes: int,
    convention: str,
) -> NDArray[np.float64]:
    """Return the difference (resamples,) for each row of weights (resamples, images)."""
    first, second = (_scores(seeds, weights, classes, convention) for seeds in (method, baseline))
    return np.asarray(first - second)


def _scores(
    seeds: Iterable[csr_array], weights: Weights, classes: int, convention: str
) -> NDArray[np.float64]:
    """Return the mIoU (resamples,) of weighted images, averaged over seeds."""
    scores = [
        mean_iou((matrix.T @ weights.T).T.reshape(-1, classes, classes + 1), convention)
        for matrix in seeds
    ]
    return np.asarray(np.mean(scores, axis=0))
