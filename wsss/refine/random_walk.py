"""Random walk that spreads class maps along affinities, with a sparse matrix in float64."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from wsss.refine.affinity import windows

SMALLEST = 1e-30  # below this an affinity is 0: powers may reach denormal numbers, which are slow

Step = scipy.sparse.csr_array[Any, tuple[int, int]]
Offsets = Iterable[tuple[tuple[int, int], NDArray[Any]]]


def transition(affinities: Offsets, height: int, width: int, beta: float, margin: int = 0) -> Step:
    """Return the matrix S (cells, cells) of one step: new scores are S @ scores.

    affinities: offsets (dy, dx) with the affinities (rows, columns) of their pairs in [0, 1]. They
    are raised to `beta`; a cell has affinity 1 to itself. Row j of S holds the affinities of cell j
    divided by their sum, so a new score is an average of the neighbours' scores. margin: as in
    `affinity.windows`; cells without any pair keep their scores.
    """
    cells = np.arange(height * width).reshape(height, width)
    firsts, seconds, values = [cells.ravel()], [cells.ravel()], [np.ones(cells.size)]
    for offset, affinity in affinities:
        here, there = windows(height, width, offset, margin)
        first, second = cells[here].ravel(), cells[there].ravel()
        value = affinity.astype(np.float64).ravel() ** beta
        kept = value > SMALLEST
        firsts += [first[kept], second[kept]]
        seconds += [second[kept], first[kept]]
        values += [value[kept]] * 2
    place = (np.concatenate(firsts), np.concatenate(seconds))
    shape = (cells.size, cells.size)
    matrix = scipy.sparse.csr_array((np.concatenate(values), place), shape=shape)
    step = scipy.sparse.csr_array(scipy.sparse.diags_array(1.0 / matrix.sum(axis=1)) @ matrix)
    step.sort_indices()  # neighbours in memory are neighbours in the picture
    return step


def random_walk(
    maps: NDArray[Any], step: Step, steps: int, device: str = "cpu"
) -> NDArray[np.float64]:
    """Return class maps (K, h, w) after `steps` steps along the matrix of `transition`.

    Equal to multiplying with the matrix raised to `steps`, which would be dense: pixels**2 entries.
    device: `cpu`, or a GPU of torch.
    """
    flat = np.ascontiguousarray(maps.reshape(len(maps), -1).T, np.float64)
    walked = (
        _walk_cpu(flat, step, steps) if device == "cpu" else _walk_gpu(flat, step, steps, device)
    )
    return np.ascontiguousarray(walked.T).reshape(maps.shape)


def _walk_cpu(flat: NDArray[Any], step: Step, steps: int) -> NDArray[Any]:
    for _ in range(steps):
        flat = step @ flat
    return flat


def _walk_gpu(flat: NDArray[Any], step: Step, steps: int, device: str) -> NDArray[Any]:
    import torch  # noqa: PLC0415  # a walk on the CPU does without it

    rows, columns, values = (
        torch.from_numpy(part).to(device) for part in (step.indptr, step.indices, step.data)
    )
    with warnings.catch_warnings():  # torch calls its sparse tensors a beta, once per process
        warnings.simplefilter("ignore", UserWarning)
        matrix = torch.sparse_csr_tensor(
            rows, columns, values, size=step.shape, check_invariants=True
        )
    scores = torch.from_numpy(flat).to(device)
    for _ in range(steps):
        scores = matrix @ scores
    return np.asarray(scores.cpu().numpy())


def with_background(
    maps: NDArray[Any], kind: Literal["constant", "power"], value: float
) -> NDArray[np.float32]:
    """Return maps (1 + K, h, w) with a background in front that walks like a class.

    constant: `value` everywhere (MCTformer, PCSformer); power: (1 - largest score) ** value (PSA).
    """
    strongest = maps.max(0, keepdims=True)
    background = np.full_like(strongest, value) if kind == "constant" else (1 - strongest) ** value
    return np.concatenate([background, maps]).astype(np.float32)


def cells(maps: NDArray[Any], stride: int) -> NDArray[np.float32]:
    """Return the means (K, h, w) of maps (K, H, W) over cells; 0 where a cell leaves the maps."""
    count, height, width = maps.shape
    rows, columns = -(-height // stride), -(-width // stride)
    padded = np.zeros((count, rows * stride, columns * stride), np.float32)
    padded[:, :height, :width] = maps
    return np.asarray(padded.reshape(count, rows, stride, columns, stride).mean((2, 4)))
