"""Labels, pairs and losses of AffinityNet (Ahn, CVPR 2018) and IRNet (Ahn et al., CVPR 2019)."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from wsss.data.labelmap import IGNORE

if TYPE_CHECKING:  # stages without a network use this module, and do not need torch
    from torch import Tensor

    from wsss.refine.pair_distance import Window

    Pairs = Iterable[tuple[tuple[int, int], Tensor]]

Labels = TypeVar("Labels", NDArray[np.uint8], "Tensor")

SMALLEST = 1e-5  # keeps logarithms and divisions finite (PSA and IRNet code)
WEIGHTS = {
    "background": 0.25,
    "foreground": 0.25,
    "unlike": 0.5,
}  # weights of the loss terms


def offsets(radius: int) -> list[tuple[int, int]]:
    """Return the offsets (dy, dx) to the neighbours nearer than `radius` cells, in PSA's order.

    They form a half disc (dy > 0, or dy = 0 and dx > 0), so each unordered pair occurs once.
    """
    right = [(0, dx) for dx in range(1, radius)]
    below = [
        (dy, dx)
        for dy in range(1, radius)
        for dx in range(-radius + 1, radius)
        if dy * dy + dx * dx < radius * radius
    ]
    return right + below


def windows(height: int, width: int, offset: tuple[int, int], margin: int = 0) -> Window:
    """Return slices (rows, columns) of the cells with a neighbour at `offset`, and of the neighbours.

    margin: leave out cells nearer than this to the left, right or lower edge. The published code uses
    radius - 1, which leaves out the cells in the lower corners altogether.
    """
    dy, dx = offset
    top, left = height - max(dy, margin), max(-dx, margin, 0)
    right = width - max(dx, margin, 0)
    rows, columns = slice(0, max(0, top)), slice(left, max(left, right))
    shifted = slice(dy, max(dy, top + dy)), slice(left + dx, max(left, right) + dx)
    return (rows, columns), shifted


def inner_radius(height: int, width: int, radius: int) -> int:
    """Return the radius for a grid with the published margin: smaller if a side has below 11 cells.

    MCTformer, PCSformer and TransCAM do so; PSA itself fails on small grids.
    """
    side = min(height, width)
    return min(radius, (side - 1) // 2) if side < 11 else radius


@functools.cache
def paths(radius: int) -> tuple[tuple[tuple[int, int], tuple[tuple[int, int], ...]], ...]:
    """Return each offset with the cells on the line between its ends, both ends included.

    These are the cells of the bounding box nearer than 1 to the line, far end first; offsets with few
    cells come first (IRNet, Sec. 4.1 and its code).
    """
    lines = [((dy, dx), _line(dy, dx)) for dy, dx in offsets(radius)]
    return tuple(sorted(lines, key=lambda path: len(path[1])))


def _line(dy: int, dx: int) -> tuple[tuple[int, int], ...]:
    box = [(y, x) for y in range(dy + 1) for x in range(min(dx, 0), max(dx, 0) + 1)]
    near = [(y, x) for y, x in box if (dy * x - dx * y) ** 2 < dy * dy + dx * dx]
    return tuple(sorted(near, key=lambda cell: -abs(cell[0]) - abs(cell[1])))


def pair_affinities(features: Tensor, radius: int, margin: int = 0) -> Pairs:
    """Yield each offset with the affinities (B, rows, columns) of its pairs, in (0, 1].

    features: (B, C, h, w). The affinity is exp(-mean |difference|) (PSA, Eq. 1). Pairs are slices of
    the features, so memory holds the differences of one offset at a time; with a gradient,
    `pair_distance.Distances` ensures the same.
    """
    height, width = features.shape[2:]
    pairs = [(offset, windows(height, width, offset, margin)) for offset in offsets(radius)]
    if features.requires_grad:
        from wsss.refine.pair_distance import Distances  # noqa: PLC0415  # imports torch

        distances = Distances.apply(features, [window for _, window in pairs])
        for (offset, _), distance in zip(pairs, distances, strict=True):
            yield offset, distance.neg().exp()
        return
    for offset, (here, there) in pairs:
        difference = features[:, :, here[0], here[1]] - features[:, :, there[0], there[1]]
        yield offset, difference.abs().mean(1).neg().exp()


def gaussian_affinities(features: Tensor, radius: int, margin: int = 0) -> Pairs:
    """Yield each offset with the affinities (B, rows, columns) of its pairs, in (0, 1].

    features: (B, C, h, w). The affinity is exp(-|difference|^2 / 2); of unit vectors that were divided by
    the root of a unit it is exp(-(1 - cosine) / unit).
    """
    height, width = features.shape[2:]
    for offset in offsets(radius):
        here, there = windows(height, width, offset, margin)
        difference = features[:, :, here[0], here[1]] - features[:, :, there[0], there[1]]
        yield offset, difference.square().sum(1).div(-2).exp()


def path_affinities(edges: Tensor, radius: int, margin: int = 0) -> Pairs:
    """Yield each offset with the affinities (B, rows, columns) of its pairs, in [0, 1].

    edges: (B, h, w) in [0, 1]. The affinity is 1 minus the strongest edge between the two cells (IRNet,
    Eq. 3).
    """
    height, width = edges.shape[1:]
    if edges.requires_grad:
        from wsss.refine.pair_paths import Strongest  # noqa: PLC0415  # imports torch

        lines = paths(radius)
        near = [windows(height, width, offset, margin) for offset, _ in lines]
        strongest_edges = Strongest.apply(edges, [cells for _, cells in lines], near)
        for (offset, _), strongest in zip(lines, strongest_edges, strict=True):
            yield offset, 1 - strongest
        return
    for offset, cells in paths(radius):
        (rows, columns), _ = windows(height, width, offset, margin)
        crossed = [
            edges[:, rows.start + y : rows.stop + y, columns.start + x : columns.stop + x]
            for y, x in cells
        ]
        strongest = functools.reduce(lambda a, b: a.maximum(b), crossed)
        yield offset, 1 - strongest


def affinity_loss(pairs: Pairs, labels: Tensor, margin: int = 0) -> dict[str, Tensor]:
    """Return the loss terms of PSA and IRNet: pairs of background, of one class, of unlike labels.

    pairs: from `pair_affinities` or `path_affinities` with the same margin. labels: (B, h, w); pairs
    with the label 255 are left out. The weights are 1/4, 1/4, 1/2; a term without pairs is 0.
    """
    height, width = labels.shape[1:]
    sums: dict[str, list[Any]] = {name: [0.0, 0.0] for name in WEIGHTS}  # total, count
    for offsets_of_shape, affinities in _by_shape(pairs).values():
        alike = _stack(affinities)
        places = [windows(height, width, offset, margin) for offset in offsets_of_shape]
        background, foreground, unlike = _kinds(labels, places)
        terms = (
            ("background", background, -(alike + SMALLEST).log()),
            ("foreground", foreground, -(alike + SMALLEST).log()),
            ("unlike", unlike, -(1 + SMALLEST - alike).log()),
        )
        for name, chosen, loss in terms:
            sums[name][0] = sums[name][0] + (loss * chosen).sum()
            sums[name][1] = sums[name][1] + chosen.sum()
    return {
        name: WEIGHTS[name] * total / (count + SMALLEST) for name, (total, count) in sums.items()
    }


def _by_shape(
    pairs: Pairs,
) -> dict[tuple[int, ...], tuple[list[tuple[int, int]], list[Tensor]]]:
    """Return offsets and affinities by the shape of the affinities; with a margin, there is one."""
    groups: dict[tuple[int, ...], tuple[list[tuple[int, int]], list[Tensor]]] = {}
    for offset, alike in pairs:
        offsets_of_shape, affinities = groups.setdefault(tuple(alike.shape), ([], []))
        offsets_of_shape.append(offset)
        affinities.append(alike)
    return groups


def _stack(maps: Sequence[Tensor]) -> Tensor:
    """Return maps of one shape as one tensor, the maps first."""
    import torch  # noqa: PLC0415  # slow to import

    return torch.stack(list(maps))


def _kinds(labels: Tensor, places: Sequence[Window]) -> tuple[Tensor, Tensor, Tensor]:
    """Return masks (P, B, rows, columns) of pairs with equal background, equal foreground, unlike labels.

    places: windows of one shape.
    """
    first = _stack([labels[:, rows, columns] for (rows, columns), _ in places])
    second = _stack([labels[:, rows, columns] for _, (rows, columns) in places])
    both_labelled = (first != IGNORE) & (second != IGNORE)
    same = both_labelled & (first == second)
    return same & (first == 0), same & (first > 0), both_labelled & (first != second)


def displacement_loss(
    field: Tensor, labels: Tensor, radius: int, margin: int = 0
) -> dict[str, Tensor]:
    """Return IRNet's two terms: cells of an object point to one place, background does not move.

    field: displacements (B, 2, h, w), downwards and to the right, in cells. labels: (B, h, w); pairs
    with the label 255 are left out. Each term has the weight 1/2 (IRNet, Eq. 5 to 7).
    """
    height, width = labels.shape[1:]
    sums: dict[str, list[Any]] = {"moves": [0.0, 0.0], "rests": [0.0, 0.0]}
    from wsss.refine.pair_paths import Neighbours  # noqa: PLC0415  # imports torch

    for offsets_of_shape, places in _windows_by_shape(height, width, radius, margin):
        background, foreground, _ = _kinds(labels, places)
        near = Neighbours.apply(field, [(far, here) for here, far in places])
        difference = near - Neighbours.apply(field, places)
        towards = difference - difference.new_tensor(offsets_of_shape)[:, None, :, None, None]
        for name, chosen, error in (
            ("moves", foreground, towards),
            ("rests", background, difference),
        ):
            sums[name][0] = sums[name][0] + (error.abs() * chosen[:, :, None]).sum()
            sums[name][1] = sums[name][1] + chosen.sum()
    return {name: 0.5 * total / (2 * count + SMALLEST) for name, (total, count) in sums.items()}


def _windows_by_shape(
    height: int, width: int, radius: int, margin: int
) -> Iterator[tuple[list[tuple[int, int]], list[Window]]]:
    """Yield offsets with their windows, those whose windows have one shape together."""
    groups: dict[tuple[int, int], tuple[list[tuple[int, int]], list[Window]]] = {}
    for offset, _ in paths(radius):
        window = windows(height, width, offset, margin)
        (rows, columns), _ = window
        shape = rows.stop - rows.start, columns.stop - columns.start
        offsets_of_shape, places = groups.setdefault(shape, ([], []))
        offsets_of_shape.append(offset)
        places.append(window)
    yield from groups.values()


def from_thresholds(
    foreground: NDArray[np.integer], background: NDArray[np.integer], labels: Sequence[int]
) -> NDArray[np.uint8]:
    """Return affinity labels (H, W) from two label images (H, W) with compact labels 0..K.

    foreground: labels at a high background score, whose foreground is reliable. background: labels at
    a low background score, whose background is reliable. labels: the classes (from 0) of the compact
    labels 1..K. All other pixels are 255 (IRNet, Sec. 3.2; PSA, Sec. 3.2).
    """
    names = np.array([0, *(label + 1 for label in labels)], np.uint8)
    confident: NDArray[np.uint8] = names[foreground]
    confident[foreground == 0] = IGNORE
    confident[(foreground == 0) & (background == 0)] = 0
    return confident


def reduce_labels(
    labels: Labels,
    size: tuple[int, int],
    pixel: Literal["centre", "corner"] = "centre",
) -> Labels:
    """Return labels (..., H, W) reduced to `size` (h, w): one pixel stands for each cell.

    pixel: the cell's centre (Pillow's nearest, IRNet) or its upper left corner (OpenCV's nearest).
    """
    shift = 0.5 if pixel == "centre" else 0.0
    rows = _picked(labels.shape[-2], size[0], shift)
    columns = _picked(labels.shape[-1], size[1], shift)
    return labels[..., rows[:, None], columns]


def _picked(length: int, cells: int, shift: float) -> NDArray[np.intp]:
    return ((np.arange(cells) + shift) * length / cells).astype(np.intp)
