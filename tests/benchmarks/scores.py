"""The threshold curve: one pass over all predictions per threshold against one joint histogram."""

import tempfile
from pathlib import Path

import numpy as np
from measure import measure, report
from numpy.typing import NDArray
from PIL import Image

from wsss import archive
from wsss.camstore import Cam, CamReader, pack
from wsss.data import labelmap
from wsss.metrics import ThresholdCurve, mean_iou

IMAGES, SIZE, CLASSES = 50, (375, 500), 21
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
        hits, predicted, expected = np.zeros((3, CLASSES), np.int64)
        for number in range(IMAGES):
            own = np.load(folder / f"{number}.npy", allow_pickle=True).item()
            scores = np.zeros((CLASSES, *SIZE), np.float32)
            scores[0] = level
            for label, part in own.items():
                scores[label + 1] = part
            truth, prediction = truth_of(folder, number), scores.argmax(0)
            known = truth < labelmap.IGNORE
            right = (prediction == truth) & known
            for label in range(CLASSES):
                predicted[label] += ((prediction == label) & known).sum()
                expected[label] += ((truth == label) & known).sum()
                hits[label] += ((truth == label) & right).sum()
        found.append(np.mean(hits / (expected + predicted - hits + 1e-10)))
    return np.array(found)


def one_histogram(folder: Path) -> NDArray[np.float64]:
    """Return mIoU at every threshold our way."""
    curve, cams = ThresholdCurve(CLASSES, LEVELS), CamReader(folder / "cam.zip")
    for number in range(IMAGES):
        cam = cams[str(number)]
        curve.add(truth_of(folder, number), cam.full(), cam.labels)
    return np.asarray(mean_iou(curve.matrices(), "C"))


def threshold_curve() -> None:
    """Score 50 images at 60 thresholds, files read in both cases."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        plain = measure(lambda: one_pass_per_threshold(folder))
        ours = measure(lambda: one_histogram(folder))
    difference = np.abs(plain.result - ours.result).max()
    if difference > 1e-12:  # the published denominators have 1e-10 added
        raise SystemExit(f"the curves differ by {difference:.2g}")
    agreement = f"largest difference {difference:.0e}"
    report(f"threshold curve, {IMAGES} images, {len(LEVELS)} thresholds", plain, ours, agreement)
