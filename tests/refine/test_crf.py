"""The CRF against an exact evaluation of its formulas, and the equivalences that save time."""

import warnings

import numpy as np
import pytest

from wsss.errors import ConfigError
from wsss.refine import crf
from wsss.refine.crf import (
    CrfInput,
    CrfTask,
    batches,
    infer,
    labels_unary,
    refine_scores,
    refined,
    score_task,
    scores_unary,
    spread,
    unchanged,
)
from wsss.refine.mean_field import posteriors
from wsss.settings.base import CRF_SETS

pytest.importorskip("pydensecrf")
on_both = pytest.mark.parametrize("device", [None, "cpu"], ids=["pydensecrf", "PyTorch"])


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


@on_both
@pytest.mark.parametrize("name", ["psa", "irn_label", "codebase"])
def test_the_library_computes_the_stated_model(name: str, device: str | None) -> None:
    image = picture()
    unary = scores_unary(scores(image))
    found = infer(image, [unary], name, device)[0]
    # the library's lattice is an approximation: 93 to 98 % of labels agree with the exact kernels
    assert (found.argmax(0) == exact(image, unary, name).argmax(0)).mean() > 0.93


@on_both
def test_posteriors_sum_to_one_and_repeat_to_the_bit(device: str | None) -> None:
    image = picture()
    first, second = (refine_scores(image, scores(image), "psa", device) for _ in range(2))
    assert np.allclose(first.sum(0), 1, atol=1e-5)
    assert np.array_equal(first, second)


@on_both
def test_two_unaries_on_one_lattice_equal_two_models(device: str | None) -> None:
    image = picture()
    unaries = [scores_unary(scores(image)), scores_unary(scores(image)[::-1])]
    together = infer(image, unaries, "irn_label", device)
    apart = [infer(image, [unary], "irn_label", device)[0] for unary in unaries]
    # PyTorch rounds a row of several energies in another order than a row of one.
    most = 0 if device is None else 1e-5
    assert all(np.abs(a - b).max() <= most for a, b in zip(together, apart, strict=True))


@on_both
def test_absent_classes_may_be_left_out_where_scores_are_given(device: str | None) -> None:
    image = picture()
    present = scores(image)
    everything = np.concatenate([present, np.zeros((18, *image.shape[:2]), np.float32)])
    few = refine_scores(image, present, "psa", device).argmax(0)
    assert np.array_equal(few, refine_scores(image, everything, "psa", device).argmax(0))


def labels_of(image: np.ndarray, probable: np.ndarray, name: str, device: str | None) -> np.ndarray:
    task = score_task("an image", image, probable)
    (result,) = refined(unchanged, [task], name, 1, device)
    assert result.name == "an image"
    assert np.array_equal(result.before[0], probable.argmax(0))
    return result.after[0]


@on_both
@pytest.mark.parametrize("name", ["deeplab_msc", "psa"])
def test_labels_of_a_segmenter_are_those_of_all_its_classes(name: str, device: str | None) -> None:
    image = picture()
    generator = np.random.default_rng(2)
    unlikely = generator.random((18, *image.shape[:2])).astype(np.float32) * 0.009
    probable = np.concatenate([unlikely[:9], scores(image), unlikely[9:]])
    probable[9:12] *= 1 - unlikely.sum(0)
    everything = refine_scores(image, probable, name, device).argmax(0)
    assert set(np.unique(everything)) <= {9, 10, 11}
    assert np.array_equal(labels_of(image, probable, name, device), everything)


@on_both
def test_where_no_label_is_certain_all_are_considered(device: str | None) -> None:
    image = picture()
    even = np.full((201, *image.shape[:2]), 1 / 201, np.float32)
    even[7] += 1e-4
    assert (labels_of(image, even, "deeplab_msc", device) == 7).all()
    alone = np.zeros((3, *image.shape[:2]), np.float32)
    alone[2] = 1.0
    assert (labels_of(image, alone, "deeplab_msc", device) == 2).all()


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


@on_both
def test_every_set_runs(device: str | None) -> None:
    image = picture(12, 12)
    for name in CRF_SETS:
        assert infer(image, [scores_unary(scores(image))], name, device)[0].shape == (3, 12, 12)


def tasks() -> list[CrfTask]:
    """Return tasks of unlike sizes and numbers of labels; the third has nothing to refine."""
    some = []
    for number, (size, labels) in enumerate(
        (((24, 30), 3), ((18, 26), 2), ((9, 9), 0), ((30, 24), 3))
    ):
        image = picture(*size)
        if not labels:
            some.append(CrfTask("nothing", [np.zeros(size, np.uint8)] * 2))
            continue
        parts = [scores(image, labels), scores(image, labels)[::-1]]
        energies = np.stack([scores_unary(part) for part in parts])
        names = np.array([0, 7, 9][:labels], np.uint8)
        before = [names[part.argmax(0)][: size[0] - 1] for part in parts]  # the picture is padded
        some.append(CrfTask(str(number), before, CrfInput(image, energies, names)))
    return some


@pytest.mark.parametrize("limit", [1, 10**9], ids=["one by one", "together"])
@pytest.mark.parametrize("name", ["psa", "irn_label_once"])
def test_images_that_go_through_pytorch_together_have_the_labels_of_the_library(
    monkeypatch: pytest.MonkeyPatch, limit: int, name: str
) -> None:
    monkeypatch.setattr(crf, "BATCH_VALUES", limit)
    assert len(list(batches(tasks()))) == (4 if limit == 1 else 1)
    library, torch = (list(refined(unchanged, tasks(), name, 1, where)) for where in (None, "cpu"))
    assert [image.name for image in torch] == ["0", "1", "nothing", "3"]
    for ours, theirs, task in zip(torch, library, tasks(), strict=True):
        for rows, expected, before in zip(ours.after, theirs.after, task.before, strict=True):
            assert rows.shape == before.shape
            assert rows.dtype == np.uint8
            assert (rows == expected).mean() > 0.999
        if task.name != "nothing":
            assert any((a != b).any() for a, b in zip(ours.after, task.before, strict=True))


def test_results_of_an_image_do_not_depend_on_its_batch() -> None:
    images = [task for task in tasks() if task.crf is not None and len(task.crf.labels) == 3]
    inputs = [task.crf for task in images if task.crf is not None]
    pictures, energies = [part.picture for part in inputs], [part.energies for part in inputs]
    together = posteriors(pictures, energies, CRF_SETS["psa"], "cpu")
    for picture_, energy, result in zip(pictures, energies, together, strict=True):
        (alone,) = posteriors([picture_], [energy], CRF_SETS["psa"], "cpu")
        assert (alone - result).abs().max() < 1e-6  # vector and scalar code round differently


@on_both
def test_a_read_only_picture_with_gaps_gives_the_same_posterior(device: str | None) -> None:
    image = picture()
    unary = scores_unary(scores(image))
    (expected,) = infer(image, [unary], "psa", device)
    wide = np.zeros((image.shape[0], 2 * image.shape[1], 3), np.uint8)
    wide[:, ::2] = image
    wide.flags.writeable = False
    unary.flags.writeable = False
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        (posterior,) = infer(wide[:, ::2], [unary], "psa", device)
    np.testing.assert_array_equal(posterior, expected)


@on_both
def test_an_unknown_set_is_answered_with_the_known_ones(device: str | None) -> None:
    image = picture()
    with pytest.raises(ConfigError, match="no CRF set 'pas'. The sets are psa, irn_label"):
        refine_scores(image, scores(image), "pas", device)
