"""Random walk: class maps spread along affinities, by a sparse matrix in float64.

On a CPU scipy multiplies with the matrix, on a GPU PyTorch does, for several images at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wsss.refine.affinity import windows

SMALLEST = 1e-30  # smaller affinities count as 0; denormal numbers would be slow

Maps = NDArray[np.floating]
Scores = NDArray[np.float64]
Step = scipy.sparse.csr_array[np.float64, tuple[int, int]]
Offsets = Iterable[tuple[tuple[int, int], Maps | Tensor]]


@dataclass(frozen=True)
class Rows:
    """A sparse square matrix of float64 by rows, on any device.

    starts: int32 (rows + 1,), where each row begins in the other two. columns: int32 (entries,),
    increasing in each row. values: (entries,).
    """

    starts: Tensor
    columns: Tensor
    values: Tensor


def transition(affinities: Offsets, height: int, width: int, beta: float, margin: int = 0) -> Step:
    """Return the matrix S (cells, cells) of one step on the CPU; the step is S @ scores.

    affinities: offsets (dy, dx), each with the affinities (rows, columns) of its pairs, in [0, 1]. They
    are raised to the power `beta`; a cell has affinity 1 to itself. Row j of S holds the affinities of
    cell j divided by their sum, so a new score is an average over neighbours. margin: as in
    `affinity.windows`; cells without pairs keep their scores.
    """
    one_image = ((offset, _tensor(values)[None]) for offset, values in affinities)
    rows = transition_rows(one_image, height, width, beta, margin)
    parts = (rows.values.numpy(), rows.columns.numpy(), rows.starts.numpy())
    return scipy.sparse.csr_array(parts, shape=(height * width, height * width))


def _tensor(values: Maps | Tensor) -> Tensor:
    return values.cpu() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))


def transition_rows(
    affinities: Iterable[tuple[tuple[int, int], Tensor]],
    height: int,
    width: int,
    beta: float,
    margin: int = 0,
) -> Rows:
    """Return the matrix of `transition` for several images, on the device of the affinities.

    affinities: (images, rows, columns) of the pairs of each offset. The matrix acts on the cells of all
    images, those of the first image first; cells of unlike images have no affinity.
    """
    stencils, steps = _stencils(affinities, height, width, beta, margin)
    values = stencils.permute(0, 2, 3, 1).reshape(-1, len(steps))
    is_present = values > 0
    values /= values.sum(1, keepdim=True)
    cells = torch.arange(len(values), dtype=torch.int32, device=values.device)
    columns = _chosen(cells[:, None] + steps, is_present)
    starts = F.pad(is_present.sum(1).cumsum(0), (1, 0))
    return Rows(starts.int(), columns, _chosen(values, is_present))


def _stencils(
    affinities: Iterable[tuple[tuple[int, int], Tensor]],
    height: int,
    width: int,
    beta: float,
    margin: int,
) -> tuple[Tensor, Tensor]:
    """Return the affinity (images, S, height, width) of each cell to S cells around it.

    The second result int32 (S,) is the difference between the numbers of the two cells. The S cells are
    in the order of their numbers, and a cell is among its own S. The affinity is 0 where there is no
    pair.
    """
    pairs = list(affinities)
    order = [offset for offset, _ in pairs] + [(-dy, -dx) for (dy, dx), _ in pairs] + [(0, 0)]
    place = {offset: number for number, offset in enumerate(sorted(order))}
    images, device = (len(pairs[0][1]), pairs[0][1].device) if pairs else (1, None)
    shape = (images, len(place), height, width)
    stencils = torch.zeros(shape, dtype=torch.float64, device=device)
    for (dy, dx), affinity in pairs:
        here, there = windows(height, width, (dy, dx), margin)
        powers = affinity.double().pow(beta)
        powers.masked_fill_(powers <= SMALLEST, 0.0)
        stencils[:, place[dy, dx], here[0], here[1]] = powers
        stencils[:, place[-dy, -dx], there[0], there[1]] = powers
    stencils[:, place[0, 0]] = 1.0
    steps = [dy * width + dx for dy, dx in place]
    return stencils, torch.tensor(steps, dtype=torch.int32, device=device)


def _chosen(values: Tensor, mask: Tensor) -> Tensor:
    """Return the values at which the mask is true, in order."""
    if values.device.type == "cpu":  # NumPy takes a fifth of PyTorch's time
        return torch.from_numpy(values.numpy()[mask.numpy()])
    return values.masked_select(mask)


def random_walk(maps: Maps, step: Step, steps: int) -> Scores:
    """Return class maps (K, h, w) after `steps` steps with the matrix of `transition`.

    The result equals a product with the matrix to the power `steps`, which would be dense (cells**2
    entries).
    """
    flat = np.ascontiguousarray(maps.reshape(len(maps), -1).T, np.float64)
    for _ in range(steps):
        flat = np.asarray(step @ flat)
    return np.ascontiguousarray(flat.T, np.float64).reshape(*maps.shape)


def random_walks(maps: Sequence[Maps], rows: Rows, steps: int) -> list[Scores]:
    """Return class maps (K, h, w) of several images of one size after `steps` steps.

    The images may have different K. rows: from `transition_rows`; its device does the work.
    """
    device, count = rows.values.device, len(rows.starts) - 1
    with warnings.catch_warnings():  # torch warns that its sparse tensors are in beta
        warnings.simplefilter("ignore", UserWarning)
        matrix = torch.sparse_csr_tensor(
            rows.starts, rows.columns, rows.values, size=(count, count), check_invariants=False
        )
    scores = torch.zeros(
        (len(maps), count // len(maps), max(map(len, maps))), dtype=torch.float64, device=device
    )
    for place, image in zip(scores, maps, strict=True):
        flat = np.ascontiguousarray(image.reshape(len(image), -1).T, np.float64)
        place[:, : len(image)] = torch.from_numpy(flat).to(device)
    flat_scores = scores.flatten(0, 1)
    for _ in range(steps):
        flat_scores = matrix @ flat_scores
    walked = flat_scores.view_as(scores).transpose(1, 2).cpu().numpy()
    return [
        np.ascontiguousarray(part[: len(image)]).reshape(image.shape)
        for part, image in zip(walked, maps, strict=True)
    ]


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
