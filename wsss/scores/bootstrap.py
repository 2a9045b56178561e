"""The interval of the difference between two methods: a bootstrap over seeds and images.

Both methods are scored on the same resampled images, so that the difficulty of an image cancels out
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13: percentile intervals). Runs
with equal seeds are resampled as pairs. A few seeds show too little of their spread, so the part of
the seeds is widened as a t interval is (Hesterberg, The American Statistician 2015, section 4.2).
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
from scipy.special import ndtri, stdtrit

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
    """The mIoU of one method minus the mIoU of another.

    interval: of another training on other images, from seeds and images; None for a single run of
    one of them, which says nothing about seeds. by_seed: the difference of each pair of runs with
    the same seed; empty if the seeds differ.
    """

    mean: float
    interval: tuple[float, float] | None
    by_seed: tuple[float, ...]


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
    method: Mapping[int, csr_array],
    baseline: Mapping[int, csr_array],
    classes: int,
    convention: str,
) -> Gain:
    """Return the mIoU of a method minus the mIoU of the baseline, each a mean over seeds.

    method, baseline: by seed, a matrix as from `read_images`. The draws depend on the numbers of images
    and seeds alone, so a table is the same every time.
    """
    runs = (dict(sorted(method.items())), dict(sorted(baseline.items())))
    is_paired = set(method) == set(baseline)
    images = next(iter(method.values())).shape[0]
    first, second = (_scores(r.values(), np.ones((1, images)), classes, convention) for r in runs)
    mean = float(first.mean() - second.mean())
    by_seed = tuple(map(float, (first - second)[:, 0])) if is_paired else ()
    seeds = min(map(len, runs))
    if seeds == 1:
        return Gain(mean, None, by_seed)
    differences = _resampled(runs, is_paired, images, classes, convention)
    low, high = np.quantile(differences, [(1 - COVERED) / 2, (1 + COVERED) / 2])
    return Gain(mean, (float(low), float(high)), by_seed)


def _resampled(
    runs: tuple[Mapping[int, csr_array], Mapping[int, csr_array]],
    is_paired: bool,
    images: int,
    classes: int,
    convention: str,
) -> NDArray[np.float64]:
    """Return the difference (resamples,) of methods whose images and runs are drawn again."""
    counts = [len(seeds) for seeds in runs]
    generator = rng(0, "bootstrap", images, *counts)
    wider = _widening(min(counts))
    parts = []
    for _ in range(RESAMPLES // PART):
        weights = generator.multinomial(images, np.full(images, 1 / images), PART)
        scores = [_scores(seeds.values(), weights, classes, convention) for seeds in runs]
        drawn = [generator.integers(count, size=(count, PART)) for count in counts]
        drawn = [drawn[0], drawn[0]] if is_paired else drawn
        same, other = (
            (s.mean(0), np.take_along_axis(s, d, 0).mean(0))
            for s, d in zip(scores, drawn, strict=True)
        )
        of_images, of_both = same[0] - other[0], same[1] - other[1]
        parts.append(of_images + wider * (of_both - of_images))
    return np.concatenate(parts)


def _widening(seeds: int) -> float:
    """Return the factor from the spread of resampled means of a few seeds to that of a t interval."""
    level = (1 + COVERED) / 2
    shrunken = np.sqrt(seeds / (seeds - 1))  # resampled means spread less by the inverse of this
    return float(stdtrit(seeds - 1, level) / ndtri(level) * shrunken)


def _scores(
    seeds: Iterable[csr_array], weights: Weights, classes: int, convention: str
) -> NDArray[np.float64]:
    """Return the mIoU (seeds, resamples) for each row of weights (resamples, images)."""
    return np.stack(
        [
            mean_iou((matrix.T @ weights.T).T.reshape(-1, classes, classes + 1), convention)
            for matrix in seeds
        ]
    )
