"""Random walks of PSA and IRNet: powers of a dense matrix against steps with a sparse one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from measure import measure, report
from numpy.typing import NDArray

from wsss.affinity import pair_affinities, path_affinities, windows
from wsss.metrics import seed
from wsss.walk import cells, random_walk, transition, with_background

if TYPE_CHECKING:
    from wsss.affinity import Pairs

IMAGE = (281, 500)
LABELS = (4, 14)
CLASSES = 21
LOG2_STEPS = 8


def smooth(count: int, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Return smooth random maps (count, height, width) in [0, 1]."""
    coarse = torch.rand(1, count, 6, 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 1)


def dense_walk(maps: NDArray[np.float32], pairs: Pairs, beta: float) -> NDArray[np.float32]:
    """Return walked maps the published way: the matrix of all cells, squared."""
    count, height, width = maps.shape
    grid = np.arange(height * width).reshape(height, width)
    matrix = torch.eye(height * width)
    for step, affinity in pairs:
        here, there = windows(height, width, step)
        first, second = (torch.from_numpy(grid[end].ravel()) for end in (here, there))
        matrix[first, second] = matrix[second, first] = affinity.flatten()
    matrix = matrix**beta
    matrix = matrix / matrix.sum(0, keepdim=True)
    for _ in range(LOG2_STEPS):
        matrix = matrix @ matrix
    walked = torch.from_numpy(maps).reshape(count, -1) @ matrix
    return walked.reshape(maps.shape).numpy()


def sparse_walk(maps: NDArray[np.float32], pairs: Pairs, beta: float) -> NDArray[np.float64]:
    """Return walked maps our way."""
    arrays = ((step, affinity[0].numpy()) for step, affinity in pairs)
    return random_walk(maps, transition(arrays, *maps.shape[1:], beta), 2**LOG2_STEPS)


def psa() -> None:
    """Walk at stride 8 with a background: 21 channels dense, the 3 that are not empty sparse."""
    generator = torch.Generator().manual_seed(0)
    present = with_background(smooth(2, *IMAGE, generator).numpy(), "power", 16)
    pooled = cells(present, 8)
    height, width = pooled.shape[1:]
    everything = np.zeros((CLASSES, height, width), np.float32)
    numbers = [0, *(label + 1 for label in LABELS)]
    everything[numbers] = pooled
    features = smooth(64, height, width, generator)[None]
    plain = measure(lambda: dense_walk(everything, pair_affinities(features, 5), 8))
    ours = measure(lambda: sparse_walk(pooled, pair_affinities(features, 5), 8))
    difference = np.abs(plain.result[numbers] - ours.result).max() / plain.result.max()
    equal = np.array(numbers)[ours.result.argmax(0)] == plain.result.argmax(0)
    report(f"PSA walk, {height}x{width}", plain, ours, _agreement(difference, equal))


def irn() -> None:
    """Walk at stride 4 with two classes."""
    generator = torch.Generator().manual_seed(0)
    height, width = -(-IMAGE[0] // 4), -(-IMAGE[1] // 4)
    edges = (smooth(1, height, width, generator) * 1.6 - 0.6).clamp(0, 1)
    maps = (smooth(2, height, width, generator) * (1 - edges)).numpy()
    plain = measure(lambda: dense_walk(maps, path_affinities(edges, 5), 10))
    ours = measure(lambda: sparse_walk(maps, path_affinities(edges, 5), 10))
    difference = np.abs(plain.result - ours.result).max() / plain.result.max()
    labels = [
        seed((found / found.max()).astype(np.float32), LABELS, 0.25)
        for found in (plain.result, ours.result)
    ]
    equal = labels[0] == labels[1]
    report(f"IRN walk, {height}x{width}", plain, ours, _agreement(difference, equal))


def _agreement(difference: float, equal: NDArray[np.bool_]) -> str:
    if difference > 1e-4 or not equal.all():
        raise SystemExit(f"the walks differ by {difference:.2g}, labels equal {equal.mean():.4%}")
    return f"largest difference {difference:.1e} of the maximum, labels equal"
