"""Scores: a pass per threshold, a loop per class or resample, against histograms and sparse sums."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import Row, compare, row
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import csr_array

from wsss.data import labelmap
from wsss.randomness import rng
from wsss.scores.bootstrap import COVERED, PART, RESAMPLES, gain
from wsss.scores.metrics import ThresholdCurve, class_scores, confusion, mean_iou
from wsss.storage import archive
from wsss.storage.cam_archive import Cam, CamReader, pack

IMAGES, SIZE, CLASSES = 20, (375, 500), 21
VAL = 1449  # images of VOC 2012 val
Labels = NDArray[np.uint8]
LEVELS = (np.arange(60) / 100).astype(np.float32)


def make(folder: Path) -> None:
    """Write pictures of truth, the authors' dictionaries, and our archive of the same maps."""
    generator = np.random.default_rng(0)
    with archive.Writer(folder / "cam.zip") as writer:
        for number in range(IMAGES):
            labels = np.sort(generator.choice(CLASSES - 1, generator.integers(1, 4), replace=False))
            coarse = generator.random((len(labels), 9, 12)).astype(np.float32)
            maps = np.stack([_large(part) for part in coarse]).astype(np.float16)
            truth = np.where(_large(generator.random((9, 12))) > 0.55, labels[0] + 1, 0)
            (folder / f"{number}.png").write_bytes(labelmap.encode(truth.astype(np.uint8)))
            own = {int(k): part.astype(np.float32) for k, part in zip(labels, maps, strict=True)}
            np.save(folder / f"{number}.npy", np.array(own, dtype=object), allow_pickle=True)
            writer.add(f"{number}.npz", pack(Cam(labels.astype(np.int16), maps, SIZE, 1)))


def _large(part: NDArray[np.floating]) -> NDArray[np.float32]:
    picture = Image.fromarray(part.astype(np.float32))
    return np.asarray(picture.resize(SIZE[::-1], Image.Resampling.BICUBIC)).clip(0, 1)


def truth_of(folder: Path, number: int) -> NDArray[np.uint8]:
    """Return the labels of a picture."""
    path = folder / f"{number}.png"
    return labelmap.decode(path.read_bytes(), str(path))


def one_pass_per_threshold(folder: Path) -> NDArray[np.float64]:
    """Return mIoU at every threshold the published way: three counters per class."""
    found = []
    for level in LEVELS:
        hits, predicted, expected = sums(predictions(folder, level))
        found.append(np.mean(hits / (expected + predicted - hits + 1e-10)))
    return np.array(found)


def predictions(folder: Path, level: float) -> Iterator[tuple[Labels, NDArray[np.intp]]]:
    """Yield truth and prediction of every picture at one threshold."""
    for number in range(IMAGES):
        own = np.load(folder / f"{number}.npy", allow_pickle=True).item()
        scores = np.zeros((CLASSES, *SIZE), np.float32)
        scores[0] = level
        for label, part in own.items():
            scores[label + 1] = part
        yield truth_of(folder, number), scores.argmax(0)


def sums(pairs: Iterable[tuple[Labels, NDArray[Any]]]) -> NDArray[np.int64]:
    """Return the right, the predicted and the true pixels of each class (3, classes)."""
    hits, predicted, expected = found = np.zeros((3, CLASSES), np.int64)
    for truth, prediction in pairs:
        known = truth < labelmap.IGNORE
        right = (prediction == truth) & known
        for label in range(CLASSES):
            predicted[label] += ((prediction == label) & known).sum()
            expected[label] += ((truth == label) & known).sum()
            hits[label] += ((truth == label) & right).sum()
    return found


def one_histogram(folder: Path) -> NDArray[np.float64]:
    """Return mIoU at every threshold our way."""
    curve, cams = ThresholdCurve(CLASSES, LEVELS), CamReader(folder / "cam.zip")
    for number in range(IMAGES):
        cam = cams[str(number)]
        curve.add(truth_of(folder, number), cam.full(), cam.labels)
    return np.asarray(mean_iou(curve.matrices(), "C"))


def threshold_curve() -> Iterator[Row]:
    """Score 20 images at 60 thresholds, files read in both cases."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        both = compare(
            lambda: one_pass_per_threshold(folder), lambda: one_histogram(folder), rounds=1
        )
    said = _equal(both[0].result, both[1].result, 1e-12)  # 1e-10 in the published denominators
    setting = f"{IMAGES} images of 375x500, {len(LEVELS)} thresholds"
    yield row("threshold curve", setting, both, said, goal=1)


def _equal(plain: NDArray[np.floating], ours: NDArray[np.floating], most: float) -> str:
    difference = np.abs(plain - ours).max()
    if not difference <= most:
        raise SystemExit(f"the scores differ by {difference:.2g}")
    return f"equal to {difference:.0e}"


def confusion_matrix() -> Iterator[Row]:
    """Count the pixels of 20 predictions: three sums per class against one histogram."""
    generator = np.random.default_rng(0)
    truths = generator.integers(0, CLASSES, (IMAGES, *SIZE)).astype(np.uint8)
    truths[:, ::50] = labelmap.IGNORE
    predictions = generator.integers(0, CLASSES, truths.shape).astype(np.uint8)
    pairs = list(zip(truths, predictions, strict=True))
    both = compare(lambda: one_sum_per_class(pairs), lambda: histograms(pairs), rounds=12)
    said = _equal(both[0].result, both[1].result, 1e-12)
    yield row("mIoU of predictions", f"{IMAGES} images of 375x500", both, said, goal=1)


def one_sum_per_class(pairs: list[tuple[Labels, Labels]]) -> NDArray[np.float64]:
    """Return the IoU of each class from three counters, as most published scripts count."""
    hits, predicted, expected = sums(pairs)
    return np.asarray(hits / (expected + predicted - hits))


def histograms(pairs: list[tuple[Labels, Labels]]) -> NDArray[np.float64]:
    """Return the IoU of each class our way."""
    total = np.zeros((CLASSES, CLASSES), np.int64)
    for truth, prediction in pairs:
        total += confusion(truth, prediction, CLASSES)
    return class_scores(total)["iou"]


def intervals() -> Iterator[Row]:
    """Resample 1,449 images a thousand times for an interval: dense sums against sparse products."""
    generator = np.random.default_rng(0)
    methods = [_counted(generator) for _ in range(2)]
    dense = [each.toarray().reshape(-1, CLASSES, CLASSES + 1) for each in methods]
    both = compare(
        lambda: resampled(*dense),
        lambda: gain(methods[:1], methods[1:], CLASSES, "A"),
        rounds=8,
    )
    plain = both[0].result
    said = _equal(plain, np.array([both[1].result.low, both[1].result.high]), 1e-9)
    setting = f"{VAL} images, {RESAMPLES} resamples"
    yield row("bootstrap interval", setting, both, said, goal=1)


def _counted(generator: np.random.Generator) -> csr_array:
    """Return confusion matrices of images with two classes besides background."""
    columns = CLASSES + 1
    labels = np.concatenate(
        [np.zeros((VAL, 1), np.int64), generator.integers(1, CLASSES, (VAL, 2))], 1
    )
    pairs = (labels[:, :, None] * columns + labels[:, None, :]).reshape(VAL, -1)
    pixels = generator.integers(100, 50_000, pairs.shape)
    rows = np.repeat(np.arange(VAL), pairs.shape[1])
    return csr_array((pixels.ravel(), (rows, pairs.ravel())), shape=(VAL, CLASSES * columns))


def resampled(ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the interval of the difference from one resample after the other."""
    draws = rng(0, "bootstrap", VAL)
    found = []
    for _ in range(RESAMPLES // PART):
        for weights in draws.multinomial(VAL, np.full(VAL, 1 / VAL), PART):
            chosen = np.repeat(np.arange(VAL), weights)
            scores = [mean_iou(own[chosen].sum(0), "A") for own in (ours, theirs)]
            found.append(scores[0] - scores[1])
    return np.quantile(found, [(1 - COVERED) / 2, (1 + COVERED) / 2])
