"""Dense CRF (Kraehenbuehl and Koltun, NeurIPS 2011), computed by pydensecrf2."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from wsss.errors import MissingError
from wsss.settings.base import (
    CRF_SETS,
)  # from the module that defines them, so that a changed set changes the fingerprint

Array = NDArray[Any]
Job = TypeVar("Job")
Result = TypeVar("Result")

CERTAINTY = 0.7  # probability of a hard label (IRNet and all code derived from it)
SMALLEST = 1e-5  # smaller probabilities are clipped to this
# A label whose probability is nowhere above this is left out; about 1e-4 of the pixels change.
NEGLIGIBLE = 0.01


def check_installed() -> None:
    """Raise `MissingError` if the CRF library is not installed, before any work is done."""
    try:
        import pydensecrf.densecrf  # noqa: F401, PLC0415  # compiled: imported where it is needed
    except ImportError:
        raise MissingError(
            "pydensecrf2 is not installed, and the parameters ask for a CRF. Install it with "
            "`uv sync --extra crf` (needs a C++ compiler) or set crf: none."
        ) from None


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


def infer(image: Array, unaries: Sequence[Array], name: str) -> list[Array]:
    """Return the posteriors (labels, height, width) of several energies of one image.

    image: 8-bit RGB (height, width, 3). unaries: energies (labels, pixels). name: a CRF set. All
    energies share one lattice, which depends on the image alone.
    """
    import pydensecrf.densecrf as library  # noqa: PLC0415  # compiled, optional

    kernels = CRF_SETS[name]
    height, width = image.shape[:2]
    count = len(unaries[0])
    model = library.DenseCRF2D(width, height, count)
    posteriors = []
    for position, unary in enumerate(unaries):
        model.setUnaryEnergy(np.ascontiguousarray(unary))
        if position == 0:  # the model keeps its pairwise terms
            model.addPairwiseGaussian(sxy=kernels.position_px, compat=kernels.position_weight)
            model.addPairwiseBilateral(
                sxy=kernels.pair_px,
                srgb=kernels.pair_grey,
                rgbim=np.ascontiguousarray(image),
                compat=kernels.pair_weight,
            )
        posterior = np.array(model.inference(kernels.iterations), np.float32)
        posteriors.append(posterior.reshape(count, height, width))
    return posteriors


def refine_scores(image: Array, scores: Array, name: str) -> Array:
    """Return the posterior (labels, height, width) after the CRF set `name`; `scores` if it is none."""
    if name == "none":
        return scores
    return infer(image, [scores_unary(scores)], name)[0]


@dataclass(frozen=True)
class Candidates:
    """An image and the labels that the CRF decides between.

    picture: 8-bit RGB (height, width, 3). labels: (candidates,), increasing. scores: probabilities of
    these labels (candidates, height, width).
    """

    name: str
    picture: Array
    labels: NDArray[np.uint8]
    scores: Array


def candidates(name: str, picture: Array, scores: Array) -> Candidates:
    """Return the labels of an image that are not negligible everywhere (a few of COCO's 81).

    scores: probabilities (labels, height, width).
    """
    limit = min(NEGLIGIBLE, 0.5 / len(scores))  # below chance, whatever the number of labels
    probable = np.flatnonzero(scores.max((1, 2)) > limit)
    return Candidates(name, picture, probable.astype(np.uint8), scores[probable])


def decide(image: Candidates, crf_set: str) -> tuple[str, NDArray[np.uint8]]:
    """Return an image's name and its labels (height, width) after the CRF set `crf_set`."""
    scores = image.scores
    if len(image.labels) > 1:
        scores = refine_scores(image.picture, scores, crf_set)
    return image.name, image.labels[scores.argmax(0)]


def spread(work: Callable[[Job], Result], jobs: Iterable[Job], processes: int) -> Iterator[Result]:
    """Yield `work(job)` in order, computed by `processes` processes (the library blocks threads).

    At most 2 jobs per process wait at a time, so memory stays bounded.
    """
    if processes <= 1:
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("forkserver")) as pool:
        waiting: deque[Future[Result]] = deque()
        for job in jobs:
            waiting.append(pool.submit(work, job))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
