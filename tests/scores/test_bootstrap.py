"""Paired intervals over images: exact where nothing varies, honest where it does."""

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from wsss.errors import MissingError
from wsss.scores.bootstrap import gain, read_images, write_images
from wsss.scores.metrics import mean_iou

CLASSES = 3


def matrices(seed: int, right: float, images: int = 200) -> csr_array:
    """Return images of 100 pixels of which about a share is right; equal seeds make equal images."""
    generator = np.random.default_rng(seed)
    found = np.zeros((images, CLASSES, CLASSES + 1), np.int64)
    for image in found:
        truth = generator.multinomial(100, generator.dirichlet(np.ones(CLASSES)))
        hard = generator.uniform(0.6, 1.0)
        for label, pixels in enumerate(truth):
            hit = int(pixels * hard * right)
            image[label, label] += hit
            image[label, (label + 1) % CLASSES] += pixels - hit
    return csr_array(found.reshape(images, -1))


def test_a_method_gains_nothing_over_itself() -> None:
    one = matrices(0, 0.8)
    found = gain([one], [one], CLASSES, "A")
    assert (found.mean, found.low, found.high) == (0, 0, 0)


def test_the_mean_is_the_difference_of_the_scores() -> None:
    better, worse = matrices(0, 0.9), matrices(0, 0.7)
    found = gain([better], [worse], CLASSES, "A")
    scores = [mean_iou(each.sum(0).reshape(CLASSES, CLASSES + 1), "A") for each in (better, worse)]
    assert found.mean == pytest.approx(float(scores[0] - scores[1]), abs=1e-12)
    assert 0 < found.low < found.mean < found.high
    assert gain([worse], [better], CLASSES, "A").high < 0


def test_pairing_makes_the_interval_narrow() -> None:
    paired = gain([matrices(0, 0.9)], [matrices(0, 0.8)], CLASSES, "A")
    unpaired = gain([matrices(0, 0.9)], [matrices(1, 0.8)], CLASSES, "A")
    assert paired.high - paired.low < 0.7 * (unpaired.high - unpaired.low)


def test_seeds_are_averaged() -> None:
    seeds = [matrices(0, 0.9), matrices(0, 0.7)]
    alone = [gain([each], [matrices(0, 0.8)], CLASSES, "A").mean for each in seeds]
    together = gain(seeds, [matrices(0, 0.8)], CLASSES, "A").mean
    assert together == pytest.approx(float(np.mean(alone)), abs=1e-12)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    first, second = np.arange(9).reshape(3, 3), np.zeros((3, 4), np.int64)
    second[2, 3] = 7  # given no class
    write_images(tmp_path / "seed.csv", {"b": first, "a": second})
    found = read_images(tmp_path / "seed.csv", ["a", "b"], CLASSES).toarray().reshape(2, 3, 4)
    assert np.array_equal(found[1, :, :3], first)
    assert np.array_equal(found[0], second)


@pytest.mark.parametrize("text", ["image,truth\na,1\n", "image,truth,prediction,pixels\nz,0,0,1\n"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "seed.csv").write_text(text)
    with pytest.raises(MissingError, match=r"seed.csv is damaged"):
        read_images(tmp_path / "seed.csv", ["a"], CLASSES)
    with pytest.raises(MissingError, match=r"none.csv is missing"):
        read_images(tmp_path / "none.csv", ["a"], CLASSES)
