"""The CRF against an exact evaluation of its formulas, and the equivalences that save time."""

import numpy as np
import pytest

from wsss.refine.crf import (
    candidates,
    decide,
    infer,
    labels_unary,
    refine_scores,
    scores_unary,
    spread,
)
from wsss.settings.base import CRF_SETS

pytest.importorskip("pydensecrf")


def picture(height: int = 24, width: int = 30) -> np.ndarray:
    generator = np.random.default_rng(0)
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2] = (200, 60, 60)
    image[:, width // 2 :] = (40, 90, 180)
    return (image + generator.integers(0, 8, image.shape)).astype(np.uint8)


def scores(image: np.ndarray, labels: int = 3) -> np.ndarray:
    noise = np.random.default_rng(1).random((labels, *image.shape[:2])).astype(np.float32)
    noise[0, :, : image.shape[1] // 2] += 0.5
    noise[1, :, image.shape[1] // 2 :] += 0.5
    return noise / noise.sum(0)


def exact(image: np.ndarray, unary: np.ndarray, name: str) -> np.ndarray:
    """Evaluate the mean field with full kernel matrices."""
    kernels, (height, width) = CRF_SETS[name], image.shape[:2]
    y, x = np.mgrid[:height, :width].reshape(2, -1).astype(float)
    colours = image.reshape(-1, 3).astype(float)

    def kernel(features: list[np.ndarray]) -> np.ndarray:
        distance = sum((f[:, None] - f[None]) ** 2 for f in features)
        raw = np.exp(-distance / 2)
        norm = raw.sum(1)
        return raw / np.sqrt(norm[:, None] * norm[None])

    near = kernel([x / kernels.position_px, y / kernels.position_px])
    alike = kernel(
        [
            x / kernels.pair_px,
            y / kernels.pair_px,
            *(colours[:, c] / kernels.pair_grey for c in range(3)),
        ]
    )
    q = np.exp(-unary) / np.exp(-unary).sum(0)
    for _ in range(kernels.iterations):
        energy = -unary + kernels.position_weight * q @ near + kernels.pair_weight * q @ alike
        q = np.exp(energy - energy.max(0)) / np.exp(energy - energy.max(0)).sum(0)
    return q.reshape(-1, height, width)


@pytest.mark.parametrize("name", ["psa", "irn_label", "codebase"])
def test_the_library_computes_the_stated_model(name: str) -> None:
    image = picture()
    unary = scores_unary(scores(image))
    found = infer(image, [unary], name)[0]
    # the library's lattice is an approximation: 93 to 98 % of labels agree with the exact kernels
    assert (found.argmax(0) == exact(image, unary, name).argmax(0)).mean() > 0.93


def test_posteriors_sum_to_one_and_repeat_to_the_bit() -> None:
    image = picture()
    first, second = (refine_scores(image, scores(image), "psa") for _ in range(2))
    assert np.allclose(first.sum(0), 1, atol=1e-5)
    assert np.array_equal(first, second)


def test_two_unaries_on_one_lattice_equal_two_models() -> None:
    image = picture()
    unaries = [scores_unary(scores(image)), scores_unary(scores(image)[::-1])]
    together = infer(image, unaries, "irn_label")
    apart = [infer(image, [unary], "irn_label")[0] for unary in unaries]
    assert all(np.array_equal(a, b) for a, b in zip(together, apart, strict=True))


def test_absent_classes_may_be_left_out_where_scores_are_given() -> None:
    image = picture()
    present = scores(image)
    everything = np.concatenate([present, np.zeros((18, *image.shape[:2]), np.float32)])
    few = refine_scores(image, present, "psa").argmax(0)
    assert np.array_equal(few, refine_scores(image, everything, "psa").argmax(0))


def labels_of(image: np.ndarray, probable: np.ndarray, name: str) -> np.ndarray:
    called, labels = decide(candidates("an image", image, probable), name)
    assert called == "an image"
    return labels


@pytest.mark.parametrize("name", ["deeplab_msc", "psa"])
def test_labels_of_a_segmenter_are_those_of_all_its_classes(name: str) -> None:
    image = picture()
    generator = np.random.default_rng(2)
    unlikely = generator.random((18, *image.shape[:2])).astype(np.float32) * 0.009
    probable = np.concatenate([unlikely[:9], scores(image), unlikely[9:]])
    probable[9:12] *= 1 - unlikely.sum(0)
    everything = refine_scores(image, probable, name).argmax(0)
    assert set(np.unique(everything)) <= {9, 10, 11}
    assert np.array_equal(labels_of(image, probable, name), everything)


def test_where_no_label_is_certain_all_are_considered() -> None:
    image = picture()
    even = np.full((201, *image.shape[:2]), 1 / 201, np.float32)
    even[7] += 1e-4
    assert (labels_of(image, even, "deeplab_msc") == 7).all()
    alone = np.zeros((3, *image.shape[:2]), np.float32)
    alone[2] = 1.0
    assert (labels_of(image, alone, "deeplab_msc") == 2).all()


def test_the_number_of_labels_is_part_of_a_hard_unary() -> None:
    labels = np.array([[0, 1]])
    gaps = [float(np.ptp(labels_unary(labels, count)[:, 0])) for count in (2, 3, 21)]
    assert gaps == pytest.approx([0.85, 1.54, 3.84], abs=0.01)


def test_none_leaves_scores_alone() -> None:
    image = picture()
    assert refine_scores(image, scores(image), "none") is not None
    assert np.array_equal(refine_scores(image, scores(image), "none"), scores(image))


def test_processes_do_not_change_results_or_their_order() -> None:
    jobs = list(range(-20, 20))
    assert list(spread(abs, jobs, 2)) == list(spread(abs, jobs, 1)) == [abs(job) for job in jobs]


def test_every_set_runs() -> None:
    image = picture(12, 12)
    for name in CRF_SETS:
        assert infer(image, [scores_unary(scores(image))], name)[0].shape == (3, 12, 12)
