"""Dense CRF (Kraehenbuehl and Koltun, NeurIPS 2011), computed by pydensecrf2 or, on a GPU, by PyTorch.

Both evaluate the same mean field on the same lattice (`mean_field`, `permutohedral`); their labels agree on
more than 99.9 % of the pixels.
"""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from wsss.errors import ConfigError, MissingError
from wsss.machine.threads import in_order

# From the module that defines them, so that a changed set changes the fingerprint.
from wsss.settings.base import CRF_SETS, CrfSet

Array = NDArray[Any]
Labels = NDArray[np.uint8]
Job = TypeVar("Job")
Result = TypeVar("Result")

# pydensecrf refuses buffers with gaps, and read-only ones such as Pillow's.
LIBRARY_NEEDS: tuple[Literal["C", "W"], ...] = ("C", "W")
CERTAINTY = 0.7  # probability of a hard label (IRNet and all code derived from it)
NO_LABEL = 255  # of a pixel whose posterior is below `confident`, and its row
NO_ROW = 255
SMALLEST = 1e-5  # smaller probabilities are clipped to this
# A label whose probability is nowhere above this is left out; about 1e-4 of the pixels change.
NEGLIGIBLE = 0.01
# Images go through a GPU together while their pixels times (labels + 4) stay below this; it needs 4 GB.
BATCH_VALUES = 24_000_000


def check_installed(crf_set: str, device: str | None = None) -> None:
    """Raise `MissingError` if a CRF set needs the library and it is not installed, before any work.

    device: of the CRF; PyTorch computes it there without the library.
    """
    if crf_set == "none" or device is not None:
        return
    try:
        import pydensecrf.densecrf  # noqa: F401, PLC0415  # compiled: imported where it is needed
    except ImportError:
        raise MissingError(
            "pydensecrf2 is not installed, and the parameters ask for a CRF. Install it with "
            "`uv sync --extra crf` (needs a C++ compiler) or set crf: none."
        ) from None


def kernels_of(name: str) -> CrfSet:
    """Return the CRF set of a name; `ConfigError` with all names if there is none."""
    if name not in CRF_SETS:
        raise ConfigError(f"There is no CRF set {name!r}. The sets are {', '.join(CRF_SETS)}.")
    return CRF_SETS[name]


def scores_unary(scores: Array) -> Array:
    """Return the energy -log p (labels, pixels) of `scores` (labels, height, width) in [0, 1]."""
    energy: Array = -np.log(np.clip(scores, SMALLEST, 1.0))
    return energy.reshape(len(scores), -1).astype(np.float32)


def labels_unary(labels: Array, count: int, among: int | None = None) -> Array:
    """Return the energy (count, pixels) of hard `labels` (height, width) in 0 .. count - 1.

    among: number of labels that share the remaining probability; at least 2, `count` by default. The
    energy gap between the hard label and the others grows with it. With `among` 21, rows for the
    present labels alone change 0.03 % of the pixels, compared with all 21 rows.
    """
    others = (count if among is None else among) - 1
    energy = np.full((count, labels.size), -np.log((1 - CERTAINTY) / others), np.float32)
    energy[labels.reshape(-1), np.arange(labels.size)] = -np.log(CERTAINTY)
    return energy


class CrfClasses(Protocol):
    """Settings that say whether the energy of hard labels counts all classes or the present ones."""

    @property
    def crf_classes(self) -> str:
        """`all` or `present`."""


def counted(params: CrfClasses, labels: Sized, classes: int) -> int:
    """Return the number of labels, background included, for `among` of `labels_unary`."""
    return classes if params.crf_classes == "all" else len(labels) + 1


def infer(
    image: Array, unaries: Sequence[Array], name: str, device: str | None = None
) -> list[Array]:
    """Return the posteriors (labels, height, width) of several energies of one image.

    image: 8-bit RGB (height, width, 3). unaries: energies (labels, pixels). name: a CRF set. All
    energies share one lattice, which depends on the image alone. device: a torch device on which PyTorch
    computes the posteriors; None: pydensecrf does.
    """
    if device is None:
        return _library_posteriors(image, unaries, name)
    from wsss.refine.mean_field import posteriors  # noqa: PLC0415  # imports torch

    (result,) = posteriors([image], [np.stack(unaries)], kernels_of(name), device)
    return list(result.cpu().numpy())


def _library_posteriors(image: Array, unaries: Sequence[Array], name: str) -> list[Array]:
    import pydensecrf.densecrf as library  # noqa: PLC0415  # compiled, optional

    kernels = kernels_of(name)
    height, width = image.shape[:2]
    count = len(unaries[0])
    model = library.DenseCRF2D(width, height, count)
    posteriors = []
    for position, unary in enumerate(unaries):
        model.setUnaryEnergy(np.require(unary, np.float32, LIBRARY_NEEDS))
        if position == 0:  # the model keeps its pairwise terms
            model.addPairwiseGaussian(sxy=kernels.position_px, compat=kernels.position_weight)
            model.addPairwiseBilateral(
                sxy=kernels.pair_px,
                srgb=kernels.pair_grey,
                rgbim=np.require(image, np.uint8, LIBRARY_NEEDS),
                compat=kernels.pair_weight,
            )
        posterior = np.array(model.inference(kernels.iterations), np.float32)
        posteriors.append(posterior.reshape(count, height, width))
    return posteriors


def refine_scores(image: Array, scores: Array, name: str, device: str | None = None) -> Array:
    """Return the posterior (labels, height, width) after the CRF set `name`; `scores` if it is none.

    device: as in `infer`.
    """
    if name == "none":
        return scores
    return infer(image, [scores_unary(scores)], name, device)[0]


@dataclass(frozen=True)
class CrfInput:
    """What the CRF needs to refine the label images of one picture.

    picture: 8-bit RGB (H, W, 3). energies: float32 (label images, rows, H * W). labels: the label that
    each row of the energies stands for. confident: probability below which a pixel gets no label.
    """

    picture: Labels
    energies: NDArray[np.float32]
    labels: Labels
    confident: float = 0.0

    def labels_of(self, rows: Array) -> Labels:
        """Return the labels of rows (H, W) of the energies; of no label where a row is `NO_ROW`."""
        table = np.full(NO_ROW + 1, NO_LABEL, np.uint8)
        table[: len(self.labels)] = self.labels
        return np.asarray(table[rows])


@dataclass(frozen=True)
class CrfTask:
    """The label images of one image before the CRF, and the input of the CRF.

    before: label images (h, w). crf: its picture may be padded on the right and below; None: the CRF
    changes nothing.
    """

    name: str
    before: Sequence[Labels]
    crf: CrfInput | None = None

    def refined(self, best_rows: Sequence[Array]) -> Refined:
        """Return the label images that have the given rows (H, W) of the energies; see `sure_rows`."""
        if self.crf is None:
            return Refined(self.name, self.before, self.before)
        height, width = self.before[0].shape
        after = [self.crf.labels_of(rows)[:height, :width] for rows in best_rows]
        return Refined(self.name, self.before, after)


@dataclass(frozen=True)
class Refined:
    """The label images (h, w) of one image before and after its CRF."""

    name: str
    before: Sequence[Labels]
    after: Sequence[Labels]


def score_task(name: str, picture: Array, scores: Array) -> CrfTask:
    """Return the task of a segmenter's scores, with the labels that are not negligible everywhere.

    scores: probabilities (labels, height, width); a few of COCO's 81 labels remain.
    """
    limit = min(NEGLIGIBLE, 0.5 / len(scores))  # below chance, whatever the number of labels
    probable = np.flatnonzero(scores.max((1, 2)) > limit)
    before = [scores.argmax(0).astype(np.uint8)]
    if len(probable) < 2:
        return CrfTask(name, before)
    energies = scores_unary(scores[probable])[None]
    return CrfTask(name, before, CrfInput(picture, energies, probable.astype(np.uint8)))


def unchanged(task: CrfTask) -> CrfTask:
    """Return a task that is prepared already."""
    return task


def refine(task: CrfTask, crf_set: str) -> Refined:
    """Return the label images of one image after a CRF set of pydensecrf."""
    if task.crf is None:
        return task.refined([])
    posteriors = infer(task.crf.picture, list(task.crf.energies), crf_set)
    return task.refined([sure_rows(scores, task.crf.confident) for scores in posteriors])


def sure_rows(posterior: Array, confident: float) -> Labels:
    """Return the most probable row (H, W) of a posterior (rows, H, W); `NO_ROW` below `confident`."""
    rows = posterior.argmax(0).astype(np.uint8)
    return np.where(posterior.max(0) < confident, np.uint8(NO_ROW), rows)


def refine_on(device: str, tasks: Sequence[CrfTask], crf_set: str) -> list[Refined]:
    """Return the label images of images after a CRF set on a torch device, in the order of `tasks`.

    Images with equally many labels go through the device together.
    """
    from wsss.refine.mean_field import best_rows  # noqa: PLC0415  # imports torch

    groups: dict[tuple[float, ...], list[tuple[int, CrfInput]]] = {}
    for position, task in enumerate(tasks):
        if task.crf is not None:
            key = (task.crf.confident, *task.crf.energies.shape[:2])
            groups.setdefault(key, []).append((position, task.crf))
    rows: dict[int, Sequence[Array]] = {}
    for (confident, *_), group in groups.items():
        pictures, energies = zip(*((part.picture, part.energies) for _, part in group), strict=True)
        best = best_rows(pictures, energies, kernels_of(crf_set), device, confident)
        rows |= {position: image for (position, _), image in zip(group, best, strict=True)}
    return [task.refined(rows.get(position, [])) for position, task in enumerate(tasks)]


def refined(
    prepare: Callable[[Job], CrfTask],
    jobs: Iterable[Job],
    crf_set: str,
    processes: int = 1,
    device: str | None = None,
) -> Iterator[Refined]:
    """Yield the label images of `prepare(job)` after the CRF, in order.

    crf_set: a CRF set, or `none`. processes: these prepare images and, without a device, compute the
    CRF. device: the torch device that computes the CRF of several images at once; None: pydensecrf.
    """
    if device is None or crf_set == "none":
        yield from spread(functools.partial(_prepared, prepare, crf_set), jobs, processes)
        return
    for tasks in batches(spread(prepare, jobs, processes)):
        yield from refine_on(device, tasks, crf_set)


def _prepared(prepare: Callable[[Job], CrfTask], crf_set: str, job: Job) -> Refined:
    return refine(prepare(job), crf_set)


def batches(tasks: Iterable[CrfTask]) -> Iterator[list[CrfTask]]:
    """Yield consecutive tasks in lists, each with at most `BATCH_VALUES` values or of one image."""
    batch: list[CrfTask] = []
    total = 0
    for task in tasks:
        count = _value_count(task)
        if batch and total + count > BATCH_VALUES:
            yield batch
            batch, total = [], 0
        batch.append(task)
        total += count
    if batch:
        yield batch


def _value_count(task: CrfTask) -> int:
    if task.crf is None:
        return int(task.before[0].size)
    images, labels, pixels = task.crf.energies.shape
    return int(pixels * (images * labels + 4))


def spread(work: Callable[[Job], Result], jobs: Iterable[Job], processes: int) -> Iterator[Result]:
    """Yield `work(job)` in order, computed by `processes` processes (the library blocks threads).

    At most 2 jobs per process wait at a time, so memory stays bounded.
    """
    if processes <= 1:
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("forkserver")) as pool:
        yield from in_order(pool, work, jobs, 2 * processes)
