"""Random walk that spreads class maps along affinities, with a sparse matrix in float64."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from wsss.affinity import windows

SMALLEST = 1e-30  # below this an affinity is 0: powers may reach denormal numbers, which are slow

Step = scipy.sparse.csr_array[Any, tuple[int, int]]
Offsets = Iterable[tuple[tuple[int, int], NDArray[Any]]]


def transition(affinities: Offsets, height: int, width: int, beta: float) -> Step:
    """Return the matrix S (cells, cells) of one step: new scores are S @ scores.

    affinities: offsets (dy, dx) with the affinities (rows, columns) of their pairs in [0, 1]. They
    are raised to `beta`; a cell has affinity 1 to itself. Row j of S holds the affinities of cell j
    divided by their sum, so a new score is an average of the neighbours' scores.
    """
    cells = np.arange(height * width).reshape(height, width)
    firsts, seconds, values = [cells.ravel()], [cells.ravel()], [np.ones(cells.size)]
    for offset, affinity in affinities:
        here, there = windows(height, width, offset)
        first, second = cells[here].ravel(), cells[there].ravel()
        value = affinity.astype(np.float64).ravel() ** beta
        kept = value > SMALLEST
        firsts += [first[kept], second[kept]]
        seconds += [second[kept], first[kept]]
        values += [value[kept]] * 2
    place = (np.concatenate(firsts), np.concatenate(seconds))
    shape = (cells.size, cells.size)
    matrix = scipy.sparse.csr_array((np.concatenate(values), place), shape=shape)
    return scipy.sparse.csr_array(scipy.sparse.diags_array(1.0 / matrix.sum(axis=1)) @ matrix)


def random_walk(maps: NDArray[Any], step: Step, steps: int) -> NDArray[np.float64]:
    """Return class maps (K, h, w) after `steps` steps along the matrix of `transition`.

    Equal to multiplying with the matrix raised to `steps`, which would be dense: pixels**2 entries.
    """
    flat = maps.reshape(len(maps), -1).T.astype(np.float64)
    for _ in range(steps):
        flat = step @ flat
    return np.ascontiguousarray(flat.T).reshape(maps.shape)
