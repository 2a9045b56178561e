"""Random walk: class maps spread along affinities, by a sparse matrix in float64."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Literal

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from wsss.refine.affinity import windows

SMALLEST = 1e-30  # smaller affinities count as 0; denormal numbers would be slow

Maps = NDArray[np.floating]
Scores = NDArray[np.float64]
Step = scipy.sparse.csr_array[np.float64, tuple[int, int]]
Offsets = Iterable[tuple[tuple[int, int], Maps]]


def transition(affinities: Offsets, height: int, width: int, beta: float, margin: int = 0) -> Step:
    """Return the matrix S (cells, cells) of one step; the step is S @ scores.

    affinities: offsets (dy, dx), each with the affinities (rows, columns) of its pairs, in [0, 1]. They
    are raised to the power `beta`; a cell has affinity 1 to itself. Row j of S holds the affinities of
    cell j divided by their sum, so a new score is an average over neighbours. margin: as in
    `affinity.windows`; cells without pairs keep their scores.
    """
    cells = np.arange(height * width).reshape(height, width)
    firsts, seconds, values = [cells.ravel()], [cells.ravel()], [np.ones(cells.size)]
    for offset, affinity in affinities:
        here, there = windows(height, width, offset, margin)
        first, second = cells[here].ravel(), cells[there].ravel()
        value = affinity.astype(np.float64).ravel() ** beta
        is_relevant = value > SMALLEST
        firsts += [first[is_relevant], second[is_relevant]]
        seconds += [second[is_relevant], first[is_relevant]]
        values += [value[is_relevant]] * 2
    positions = (np.concatenate(firsts), np.concatenate(seconds))
    shape = (cells.size, cells.size)
    matrix = scipy.sparse.csr_array((np.concatenate(values), positions), shape=shape)
    step = scipy.sparse.csr_array(scipy.sparse.diags_array(1.0 / matrix.sum(axis=1)) @ matrix)
    step.sort_indices()  # memory is then read in the order of the image
    return step


def random_walk(maps: Maps, step: Step, steps: int, device: str = "cpu") -> NDArray[np.float64]:
    """Return class maps (K, h, w) after `steps` steps with the matrix of `transition`.

    The result equals a product with the matrix to the power `steps`, which would be dense (cells**2
    entries). device: `cpu` or a torch device.
    """
    flat = np.ascontiguousarray(maps.reshape(len(maps), -1).T, np.float64)
    walked = (
        _walk_cpu(flat, step, steps) if device == "cpu" else _walk_gpu(flat, step, steps, device)
    )
    return np.ascontiguousarray(walked.T, np.float64).reshape(*maps.shape)


def _walk_cpu(flat: Scores, step: Step, steps: int) -> Scores:
    for _ in range(steps):
        flat = np.asarray(step @ flat)
    return flat


def _walk_gpu(flat: Scores, step: Step, steps: int, device: str) -> Scores:
    import torch  # noqa: PLC0415  # a walk on the CPU does not need it

    rows, columns, values = (
        torch.from_numpy(part).to(device) for part in (step.indptr, step.indices, step.data)
    )
    with warnings.catch_warnings():  # torch warns that its sparse tensors are in beta
        warnings.simplefilter("ignore", UserWarning)
        matrix = torch.sparse_csr_tensor(
            rows, columns, values, size=step.shape, check_invariants=True
        )
    scores = torch.from_numpy(flat).to(device)
    for _ in range(steps):
        scores = matrix @ scores
    return np.asarray(scores.cpu().numpy())


def with_background(
    maps: Maps, kind: Literal["constant", "power"], value: float
) -> NDArray[np.float32]:
    """Return maps (1 + K, h, w): a background score, which takes part in the walk, and the maps.

    maps: (K, h, w) in [0, 1]. kind: `constant`, `value` everywhere (MCTformer, PCSformer); `power`,
    (1 - largest score) ** value (PSA).
    """
    strongest = maps.max(0, keepdims=True)
    background = np.full_like(strongest, value) if kind == "constant" else (1 - strongest) ** value
    return np.concatenate([background, maps]).astype(np.float32)


def cells(maps: Maps, stride: int) -> NDArray[np.float32]:
    """Return the means (K, h, w) of maps (K, H, W) over cells of `stride` pixels, padded with 0."""
    count, height, width = maps.shape
    rows, columns = -(-height // stride), -(-width // stride)
    padded = np.zeros((count, rows * stride, columns * stride), np.float32)
    padded[:, :height, :width] = maps
    return np.asarray(padded.reshape(count, rows, stride, columns, stride).mean((2, 4)))
