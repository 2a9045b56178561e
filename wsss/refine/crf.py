"""Dense CRF (Kraehenbuehl and Koltun, NeurIPS 2011) through pydensecrf2, with the parameter sets of `schema/base`."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from wsss.errors import MissingError
from wsss.settings.base import CRF_SETS  # the module itself: a changed set is changed code

Array = NDArray[Any]
Job = TypeVar("Job")
Result = TypeVar("Result")

CERTAINTY = 0.7  # of a hard label: IRNet and everything derived from it
SMALLEST = 1e-5  # probability that scores are clipped to
NEGLIGIBLE = 0.01  # labels nowhere more probable are left out; about 1e-4 of the pixels change


def check_installed() -> None:
    """Raise `MissingError` if there is no CRF library, before any work is done."""
    try:
        import pydensecrf.densecrf  # noqa: F401, PLC0415  # compiled: imported where it is needed
    except ImportError:
        raise MissingError(
            "pydensecrf2 is not installed, and the parameters ask for a CRF. Install it with "
            "`uv sync --extra crf` (needs a C++ compiler) or set crf: none."
        ) from None


def scores_unary(scores: Array) -> Array:
    """Return the energy -log p of `scores` (labels, height, width) in [0, 1], not re-normalised."""
    energy: Array = -np.log(np.clip(scores, SMALLEST, 1.0))
    return energy.reshape(len(scores), -1).astype(np.float32)


def labels_unary(labels: Array, count: int, among: int | None = None) -> Array:
    """Return the energy (count, pixels) of hard `labels` (height, width) in 0 .. count - 1.

    among: labels that share what is not certain; at least 2, `count` if not given. It is part of the
    energy: the gap between the given and another label grows with it. Rows for the present labels
    alone among 21 give the result of all 21 rows but for 0.03 % of the pixels.
    """
    others = (count if among is None else among) - 1
    energy = np.full((count, labels.size), -np.log((1 - CERTAINTY) / others), np.float32)
    energy[labels.reshape(-1), np.arange(labels.size)] = -np.log(CERTAINTY)
    return energy


def counted(params: Any, labels: Sized, classes: int) -> int:
    """Return how many labels the energy of hard labels counts. params: has `among`."""
    return classes if params.crf_classes == "all" else len(labels) + 1


def infer(image: Array, unaries: Sequence[Array], name: str) -> list[Array]:
    """Return the posteriors (labels, height, width) of several unaries on one lattice.

    image: RGB of 8 bits (height, width, 3), the decoded file. unaries: energies (labels, pixels).
    """
    import pydensecrf.densecrf as library  # noqa: PLC0415  # compiled, optional

    kernels = CRF_SETS[name]
    height, width = image.shape[:2]
    count = len(unaries[0])
    model = library.DenseCRF2D(width, height, count)
    posteriors = []
    for position, unary in enumerate(unaries):
        model.setUnaryEnergy(np.ascontiguousarray(unary))
        if position == 0:  # the pairwise terms stay with the model: one lattice for all unaries
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
    """Return the posterior (labels, height, width) of one image, or `scores` where `name` is none."""
    if name == "none":
        return scores
    return infer(image, [scores_unary(scores)], name)[0]


@dataclass(frozen=True)
class Candidates:
    """An image and the labels that are probable in it, for the CRF to decide between.

    picture: RGB of 8 bits (height, width, 3). labels: (candidates,), increasing.
    scores: their probabilities (candidates, height, width).
    """

    name: str
    picture: Array
    labels: NDArray[np.uint8]
    scores: Array


def candidates(name: str, picture: Array, scores: Array) -> Candidates:
    """Return the labels of an image that are not negligible everywhere: of COCO's 81 a few.

    scores: probabilities (labels, height, width).
    """
    least = min(NEGLIGIBLE, 0.5 / len(scores))  # never more than chance
    probable = np.flatnonzero(scores.max((1, 2)) > least)
    return Candidates(name, picture, probable.astype(np.uint8), scores[probable])


def decide(image: Candidates, crf_set: str) -> tuple[str, NDArray[np.uint8]]:
    """Return an image's name and its most probable labels (height, width) after the CRF."""
    scores = image.scores
    if len(image.labels) > 1:
        scores = refine_scores(image.picture, scores, crf_set)
    return image.name, image.labels[scores.argmax(0)]


def spread(work: Callable[[Job], Result], jobs: Iterable[Job], processes: int) -> Iterator[Result]:
    """Yield `work(job)` in order, over `processes` processes: the library holds Python's lock.

    Only a few jobs are taken from `jobs` ahead of the results, so memory stays bounded.
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
