"""The strongest edge between two cells, and differences to neighbours, for many pairs in few operations.

A GPU starts every operation by itself, so a loop over the cells of all paths would cost more than its
arithmetic: IRNet has 152 offsets with 2,134 cells.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.refine.pair_distance import Window

LARGEST = 2**26  # values that are gathered at once, 256 MB

Path = Sequence[tuple[int, int]]  # offsets (y, x) of its cells from the first cell


class Crossed(NamedTuple):
    """Paths with equally many cells. shifts: from a cell's position to the path's cells (P, L)."""

    first: int
    shifts: Tensor


class Strongest(torch.autograd.Function):
    """The largest value on the path of every pair, for many offsets.

    The gradient goes to the first cell with the largest value, as in the published max pooling.
    """

    @staticmethod
    def forward(
        ctx: Any, edges: Tensor, paths: Sequence[Path], windows: Sequence[Window]
    ) -> tuple[Tensor, ...]:
        """Return the largest edges (B, rows, columns) on the path of each offset; edges: (B, h, w)."""
        size = batch, height, width = edges.shape
        reach = max(max(y, abs(x)) for path in paths for y, x in path)
        flat = F.pad(edges, (reach, reach, 0, reach)).flatten(1)
        start, line = _starts(height, width, reach, edges.device)
        largest, places = [], []
        for group in _groups(paths, line, batch * height * width, edges.device):
            where = start + group.shifts[..., None]  # (P, L, cells)
            values = flat.index_select(1, where.flatten()).view(batch, *where.shape)
            maximum, place = values.max(2)
            largest += list(maximum.view(batch, -1, height, width).unbind(1))
            places.append(place.to(torch.uint8))
        ctx.places, ctx.size, ctx.paths, ctx.windows = places, size, paths, windows
        return tuple(
            values[:, rows, columns]
            for values, ((rows, columns), _) in zip(largest, windows, strict=True)
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of the edges (B, h, w)."""
        batch, height, width = ctx.size
        reach = max(max(y, abs(x)) for path in ctx.paths for y, x in path)
        device = gradients[0].device
        start, line = _starts(height, width, reach, device)
        total = gradients[0].new_zeros(batch, (height + reach) * line)
        groups = _groups(ctx.paths, line, batch * height * width, device)
        for group, place in zip(groups, ctx.places, strict=True):
            count = len(group.shifts)
            whole = gradients[0].new_zeros(batch, count, height, width)
            for number in range(count):
                (rows, columns), _ = ctx.windows[group.first + number]
                whole[:, number, rows, columns] = gradients[group.first + number]
            path = torch.arange(count, device=device)[:, None]
            where = start + group.shifts[path, place.long()]
            total.scatter_add_(1, where.flatten(1), whole.flatten(1))
        inside = total.view(batch, height + reach, line)
        return inside[:, :height, reach : reach + width], None, None


class Neighbours(torch.autograd.Function):
    """Maps at the far cell of every pair, for offsets whose windows have one shape."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, windows: Sequence[Window]) -> Tensor:
        """Return the values (P, B, C, rows, columns) at the far cells; maps: (B, C, h, w)."""
        ctx.shape, ctx.windows = maps.shape, windows
        return torch.stack([maps[:, :, rows, columns] for _, (rows, columns) in windows])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the maps (B, C, h, w)."""
        total = gradient.new_zeros(ctx.shape)
        for (_, (rows, columns)), part in zip(ctx.windows, gradient, strict=True):
            total[:, :, rows, columns] += part
        return total, None


def _starts(height: int, width: int, reach: int, device: torch.device) -> tuple[Tensor, int]:
    """Return the position (cells,) of every cell in the padded map, and the length of its lines."""
    line = width + 2 * reach
    rows = torch.arange(height, device=device)[:, None] * line
    columns = torch.arange(reach, reach + width, device=device)
    return (rows + columns).flatten(), line


def _groups(
    paths: Sequence[Path], line: int, values: int, device: torch.device
) -> Iterator[Crossed]:
    """Yield consecutive paths with equally many cells, as many as fit into memory.

    line: length of a line of the padded map. values: number of values at one cell of a path.
    """
    first = 0
    for cells, group in itertools.groupby(paths, key=len):
        waiting = list(group)
        at_once = max(1, LARGEST // (values * cells))
        for at in range(0, len(waiting), at_once):
            part = waiting[at : at + at_once]
            shifts = [[y * line + x for y, x in path] for path in part]
            yield Crossed(first, torch.tensor(shifts, device=device))
            first += len(part)
