"""Intervals over seeds and images: exact where nothing varies, honest where it does."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.sparse import csr_array

from wsss.errors import MissingError
from wsss.scores.bootstrap import gain, read_images, write_images
from wsss.scores.metrics import mean_iou

CLASSES = 3


def matrices(seed: int, right: float, images: int = 200) -> csr_array:
    """Return images of 100 pixels of which about a share is right; equal seeds make equal images."""
    generator = np.random.default_rng(seed)
    counts = np.zeros((images, CLASSES, CLASSES + 1), np.int64)
    for image in counts:
        truth = generator.multinomial(100, generator.dirichlet(np.ones(CLASSES)))
        hard = generator.uniform(0.6, 1.0)
        for label, pixels in enumerate(truth):
            hit = int(pixels * hard * right)
            image[label, label] += hit
            image[label, (label + 1) % CLASSES] += pixels - hit
    return csr_array(counts.reshape(images, -1))


def runs(*matrices: csr_array) -> dict[int, csr_array]:
    """Return runs of the seeds 0, 1, ..."""
    return dict(enumerate(matrices))


def trained(generator: np.random.Generator, hard: NDArray[np.float64], right: float) -> csr_array:
    """Return the images of one training: its share of right pixels varies with the seed."""
    level = right + generator.normal(0, 0.02)
    counts = np.zeros((len(hard), CLASSES, CLASSES + 1), np.int64)
    hits = np.clip(hard * level * 100, 0, 100).astype(int)
    for label in range(CLASSES):
        counts[:, label, label] = hits[:, label]
        counts[:, label, (label + 1) % CLASSES] = 100 - hits[:, label]
    return csr_array(counts.reshape(len(hard), -1))


def test_a_method_gains_nothing_over_itself() -> None:
    one, two = matrices(0, 0.8), matrices(0, 0.7)
    measured_gain = gain(runs(one, two), runs(one, two), CLASSES, "A")
    assert (measured_gain.mean, measured_gain.interval, measured_gain.by_seed) == (
        0,
        (0, 0),
        (0, 0),
    )


def test_the_mean_is_the_difference_of_the_scores() -> None:
    better, worse = matrices(0, 0.9), matrices(0, 0.7)
    measured_gain = gain(runs(better), runs(worse), CLASSES, "A")
    scores = [mean_iou(each.sum(0).reshape(CLASSES, CLASSES + 1), "A") for each in (better, worse)]
    assert measured_gain.mean == pytest.approx(float(scores[0] - scores[1]), abs=1e-12)
    assert measured_gain.by_seed == (pytest.approx(measured_gain.mean, abs=1e-12),)
    two = gain(runs(better, better), runs(worse, worse), CLASSES, "A")
    assert two.interval is not None
    assert 0 < two.interval[0] < two.mean < two.interval[1]


def test_one_run_has_no_interval() -> None:
    one, three = runs(matrices(0, 0.9)), runs(*(matrices(0, 0.8 + k / 100) for k in range(3)))
    assert gain(one, one, CLASSES, "A").interval is None
    assert gain(three, one, CLASSES, "A").interval is None
    assert gain(three, one, CLASSES, "A").by_seed == ()


def test_pairing_images_makes_the_interval_narrow() -> None:
    base = runs(matrices(0, 0.8), matrices(0, 0.8))
    paired = gain(runs(matrices(0, 0.9), matrices(0, 0.9)), base, CLASSES, "A").interval
    unpaired = gain(runs(matrices(1, 0.9), matrices(1, 0.9)), base, CLASSES, "A").interval
    assert paired is not None
    assert unpaired is not None
    assert paired[1] - paired[0] < 0.7 * (unpaired[1] - unpaired[0])


def test_runs_of_other_seeds_are_not_paired() -> None:
    first, second = matrices(0, 0.9), matrices(0, 0.7)
    equal = gain(runs(first, second), runs(first, second), CLASSES, "A")
    other = gain(runs(first, second), {5: first, 6: second}, CLASSES, "A")
    assert other.by_seed == ()
    assert other.mean == pytest.approx(equal.mean, abs=1e-12)
    assert equal.interval is not None
    assert other.interval is not None
    assert other.interval[1] - other.interval[0] > equal.interval[1] - equal.interval[0]


def test_seeds_are_averaged() -> None:
    seeds = [matrices(0, 0.9), matrices(0, 0.7)]
    base = runs(matrices(0, 0.8))
    alone = [gain(runs(each), base, CLASSES, "A").mean for each in seeds]
    together = gain(runs(*seeds), base, CLASSES, "A").mean
    assert together == pytest.approx(float(np.mean(alone)), abs=1e-12)


def test_seeds_that_disagree_widen_the_interval_as_a_paired_t_does() -> None:
    base = [matrices(0, 0.80)] * 3
    measured_gain = gain(
        runs(*(matrices(0, r) for r in (0.84, 0.78, 0.83))), runs(*base), CLASSES, "A"
    )
    differences = np.array(measured_gain.by_seed)
    half = stats.t.ppf(0.975, 2) * differences.std(ddof=1) / np.sqrt(3)
    assert measured_gain.interval is not None
    low, high = measured_gain.interval
    assert low < 0 < measured_gain.mean < high
    assert (high - low) / 2 == pytest.approx(
        half, rel=0.25
    )  # images hardly add; draws of 3 are few


@pytest.mark.slow
def test_the_interval_holds_the_true_difference_as_often_as_a_paired_t() -> None:
    """150 studies of three seeds and 40 images: the share that holds the truth, both about 95 %."""
    truth = np.random.default_rng(0)
    hard = truth.uniform(0.6, 1, (3000, CLASSES))
    levels = (0.78, 0.75)
    scores = [
        np.mean(
            [
                mean_iou(trained(truth, hard, level).sum(0).reshape(CLASSES, CLASSES + 1), "A")
                for _ in range(40)
            ]
        )
        for level in levels
    ]
    expected = scores[0] - scores[1]
    held = held_by_t = 0
    for study in range(150):
        generator = np.random.default_rng((1, study))
        hard = generator.uniform(0.6, 1, (40, CLASSES))
        pair = [runs(*(trained(generator, hard, level) for _ in range(3))) for level in levels]
        measured_gain = gain(*pair, CLASSES, "A")
        differences = np.array(measured_gain.by_seed)
        half = stats.t.ppf(0.975, 2) * differences.std(ddof=1) / np.sqrt(3)
        assert measured_gain.interval is not None
        held += measured_gain.interval[0] <= expected <= measured_gain.interval[1]
        held_by_t += abs(measured_gain.mean - expected) <= half
    assert held / 150 == pytest.approx(0.95, abs=0.05)  # 1.8 % is the deviation of such a share
    assert held_by_t / 150 == pytest.approx(0.95, abs=0.05)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    first, second = np.arange(9).reshape(3, 3), np.zeros((3, 4), np.int64)
    second[2, 3] = 7  # given no class
    write_images(tmp_path / "seed.csv", {"b": first, "a": second})
    counts = read_images(tmp_path / "seed.csv", ["a", "b"], CLASSES).toarray().reshape(2, 3, 4)
    assert np.array_equal(counts[1, :, :3], first)
    assert np.array_equal(counts[0], second)


@pytest.mark.parametrize("text", ["image,truth\na,1\n", "image,truth,prediction,pixels\nz,0,0,1\n"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "seed.csv").write_text(text)
    with pytest.raises(MissingError, match=r"seed.csv is damaged"):
        read_images(tmp_path / "seed.csv", ["a"], CLASSES)
    with pytest.raises(MissingError, match=r"none.csv is missing"):
        read_images(tmp_path / "none.csv", ["a"], CLASSES)
