"""Affinities: the loss over gathered pairs against slices, walks by dense powers against sparse steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from measure import Row, compare, difference, row
from numpy.typing import NDArray

from wsss.data.labelmap import IGNORE
from wsss.refine.affinity import affinity_loss as our_loss
from wsss.refine.affinity import offsets, pair_affinities, path_affinities, windows
from wsss.refine.random_walk import cells, random_walk, transition, with_background
from wsss.scores.metrics import seed

if TYPE_CHECKING:
    from wsss.refine.affinity import Pairs

IMAGE = (188, 334)
LABELS = (4, 14)
CLASSES = 21
LOG2_STEPS = 8
BATCH, CHANNELS, SIDE, RADIUS = 4, 448, 56, 5  # AffinityNet on crops of 448 px
SMALLEST = 1e-5


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


def psa() -> Iterator[Row]:
    """Walk at stride 8 with a background: 21 channels dense, the 3 that are not empty sparse."""
    generator = torch.Generator().manual_seed(0)
    present = with_background(smooth(2, *IMAGE, generator).numpy(), "power", 16)
    pooled = cells(present, 8)
    height, width = pooled.shape[1:]
    everything = np.zeros((CLASSES, height, width), np.float32)
    numbers = [0, *(label + 1 for label in LABELS)]
    everything[numbers] = pooled
    features = smooth(64, height, width, generator)[None]
    both = compare(
        lambda: dense_walk(everything, pair_affinities(features, 5), 8),
        lambda: sparse_walk(pooled, pair_affinities(features, 5), 8),
    )
    plain, ours = both[0].result[numbers], both[1].result
    equal = np.array(numbers)[ours.argmax(0)] == both[0].result.argmax(0)
    said = _agreement(plain, ours, equal)
    yield row("random walk, PSA", f"one image, {height}x{width} cells", both, said, goal=1)


def irn() -> Iterator[Row]:
    """Walk at stride 4 with two classes."""
    generator = torch.Generator().manual_seed(0)
    height, width = -(-IMAGE[0] // 4), -(-IMAGE[1] // 4)
    edges = (smooth(1, height, width, generator) * 1.6 - 0.6).clamp(0, 1)
    maps = (smooth(2, height, width, generator) * (1 - edges)).numpy()
    both = compare(
        lambda: dense_walk(maps, path_affinities(edges, 5), 10),
        lambda: sparse_walk(maps, path_affinities(edges, 5), 10),
        rounds=1,
    )
    labels = [
        seed((each.result / each.result.max()).astype(np.float32), LABELS, 0.25) for each in both
    ]
    said = _agreement(both[0].result, both[1].result, labels[0] == labels[1])
    yield row("random walk, IRNet", f"one image, {height}x{width} cells", both, said, goal=1)


def _agreement(
    plain: NDArray[np.floating], ours: NDArray[np.floating], equal: NDArray[np.bool_]
) -> str:
    if not equal.all():
        raise SystemExit(f"the walks: labels equal in {equal.mean():.4%} of the cells")
    said = difference(torch.from_numpy(plain).double(), torch.from_numpy(ours), "walks", 1e-4)
    return f"{said}, labels equal"


def affinity_loss() -> Iterator[Row]:
    """Take AffinityNet's loss and its gradient over all pairs of a batch, as PSA and as we do."""
    generator = torch.Generator().manual_seed(0)
    height = width = SIDE
    features = torch.stack([smooth(CHANNELS, height, width, generator) for _ in range(BATCH)])
    labels = torch.randint(0, 3, (BATCH, height, width), generator=generator)
    labels[:, ::5] = IGNORE

    def gradient(loss: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        leaf = features.clone().requires_grad_()
        loss(leaf).backward()
        assert leaf.grad is not None
        return leaf.grad

    def ours(leaf: torch.Tensor) -> torch.Tensor:
        pairs = pair_affinities(leaf, RADIUS, RADIUS - 1)
        return torch.stack(list(our_loss(pairs, labels, RADIUS - 1).values())).sum()

    both = compare(
        lambda: gradient(lambda leaf: gathered_loss(leaf, labels)),
        lambda: gradient(ours),
        rounds=6,
    )
    said = difference(both[0].result, both[1].result, "affinity loss", 1e-4)
    setting = f"{BATCH} images, {CHANNELS} channels, {height}x{width} cells, radius {RADIUS}"
    yield row("affinity loss and gradient", setting, both, said, goal=1)


def gathered_loss(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the loss with the features of both ends of all pairs gathered (PSA)."""
    height, width = labels.shape[1:]
    grid = torch.arange(height * width).reshape(height, width)
    here, there = [], []
    for step in offsets(RADIUS):
        window = windows(height, width, step, RADIUS - 1)
        here.append(grid[window[0]].flatten())
        there.append(grid[window[1]].flatten())
    flat, own = features.flatten(2), labels.flatten(1)
    ends = flat[:, :, torch.cat(here)], flat[:, :, torch.cat(there)]
    alike = (ends[0] - ends[1]).abs().mean(1).neg().exp()
    first, second = own[:, torch.cat(here)], own[:, torch.cat(there)]
    known = (first != IGNORE) & (second != IGNORE)
    same = known & (first == second)
    kinds = (
        (same & (first == 0), alike + SMALLEST, 0.25),
        (same & (first > 0), alike + SMALLEST, 0.25),
        (known & (first != second), 1 + SMALLEST - alike, 0.5),
    )
    return torch.stack(
        [
            weight * -(chosen * inside.log()).sum() / (chosen.sum() + SMALLEST)
            for chosen, inside, weight in kinds
        ]
    ).sum()
