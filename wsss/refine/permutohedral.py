"""Bilateral filtering on the permutohedral lattice (Adams, Baek and Davis, Eurographics 2010).

Pixels are points of colour and position in a lattice of simplices. Their values are distributed to the
vertices, blurred along the axes of the lattice and interpolated back. The cost is linear in the number
of pixels, whatever the widths of the Gaussian.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Fixed-point values are multiples of this: below the rounding of float32, and sums stay below 2**31.
UNIT = 2.0**-32


def bilateral(image: Tensor, values: Tensor, colour: float, position_px: float) -> Tensor:
    """Return sums (C, H, W) of `values` over near pixels of like colour, with Gaussian weights.

    image: (3, H, W) in [0, 255]. values: (C, H, W). colour, position_px: standard deviations, in grey
    levels and pixels. The weights do not sum to one, and a pixel counts itself.
    """
    height, width = image.shape[1:]
    places = pixel_places(height, width, image.device)
    colours = image.float().flatten(1).T
    points = torch.cat((places / position_px, colours / colour), 1)
    return gaussian(points, values.float().flatten(1).T).T.reshape(values.shape)


def pixel_places(height: int, width: int, device: torch.device) -> Tensor:
    """Return column and row (pixels, 2) of each pixel of an image, row by row."""
    rows, columns = (torch.arange(n, device=device).float() for n in (height, width))
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), 2).flatten(0, 1)


def gaussian(points: Tensor, values: Tensor) -> Tensor:
    """Return `values` (n, C) blurred by a Gaussian of unit width between `points` (n, d)."""
    return Lattice(points).blur(values)


class Lattice:
    """The lattice of points (n, d); it can blur any number of values.

    It lies on the device of the points.
    """

    def __init__(self, points: Tensor, images: Tensor | None = None) -> None:
        """Build the lattice from the vertices that points touch.

        images: int64 (n,), number from 0 of the image that each point belongs to. The points of several
        images lie in one lattice, but do not meet. None: all points belong to one image.
        """
        rank, floors, self.shares = _simplices(points)
        packed, steps = _packed(rank, floors, images)
        keys, where = torch.unique(packed, return_inverse=True)
        self.size, self.dimensions = len(keys), points.shape[1]
        self.where = where.flatten().int()
        self.neighbours = _neighbours(keys, steps)

    def blur(self, values: Tensor, *, fixed_point: bool = False) -> Tensor:
        """Return `values` (n, C) blurred by a Gaussian of unit width.

        fixed_point: add values at the vertices as integers, so that a GPU, which adds them in any order,
        repeats its results to the bit. Values must lie far below 1,000 then, and have no gradient.
        """
        spread = (self.shares[:, :, None] * values[:, None]).flatten(0, 1)
        # The last row stands for missing vertices. It stays 0, as it is its own neighbour.
        grid = values.new_zeros(self.size + 1, values.shape[1])
        if fixed_point:
            whole = grid.long().index_add_(0, self.where, (spread / UNIT).long())
            grid = whole.to(values.dtype) * UNIT
        else:
            grid.index_add_(0, self.where, spread)
        for before, after in self.neighbours:
            near = grid.index_select(0, before) + grid.index_select(0, after)
            grid = grid + 0.5 * near
        read = grid.index_select(0, self.where).view(len(values), self.dimensions + 1, -1)
        return (read * self.shares[:, :, None]).sum(1) / (1 + 2.0**-self.dimensions)


def _simplices(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the simplex of each point, and the point's shares (n, d + 1) of its vertices.

    The simplex has the rank int64 (n, d + 1) of each coordinate, by which vertices differ, and the
    coordinates (n, d + 1) of its first vertex, divided by d + 1.
    """
    d = points.shape[1]
    high = _elevated(points)
    floors = (high / (d + 1)).round()
    rest = high - floors * (d + 1)
    larger = rest[:, None, :] > rest[:, :, None]
    order = torch.arange(d + 1, device=points.device)
    first = (rest[:, None, :] == rest[:, :, None]) & (order[None] < order[:, None])
    rank = (larger | first).sum(2) + floors.sum(1, keepdim=True).long()
    turned = torch.where(rank < 0, 1, torch.where(rank > d, -1, 0))
    rank, floors = rank + turned * (d + 1), floors + turned
    inner = high / (d + 1) - floors
    shares = inner.new_zeros(len(points), d + 2)
    shares.scatter_add_(1, d - rank, inner)
    shares.scatter_add_(1, d + 1 - rank, -inner)
    shares[:, 0] += 1 + shares[:, d + 1]
    return rank, floors.long(), shares[:, : d + 1].contiguous()


def _elevated(points: Tensor) -> Tensor:
    """Return points (n, d) as (n, d + 1), in the hyperplane of coordinates that sum to zero."""
    d = points.shape[1]
    scales = [math.sqrt(2 / 3) * (d + 1) / math.sqrt((j + 1) * (j + 2)) for j in range(d)]
    scaled = points * points.new_tensor(scales)
    behind = F.pad(scaled.flip(1).cumsum(1).flip(1), (0, 1))  # sums of the coordinates from j on
    before = F.pad(scaled, (1, 0))
    return behind - before * torch.arange(d + 1, device=points.device)


def _packed(rank: Tensor, floors: Tensor, images: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return one integer (n, d + 1) per vertex, and the differences (d + 1,) along the axes.

    An integer is that of a vertex plus a difference if its vertex is the next one along that axis. rank,
    floors: from `_simplices`.
    """
    d = rank.shape[1] - 1
    corners = floors[:, :d] * (d + 1)
    # Coordinates of vertices differ from a corner by at most d, those of their neighbours by d more.
    low, high = corners.amin(0) - 2 * d, corners.amax(0) + 2 * d
    spans = (high - low + 1).flip(0).cumprod(0).flip(0)
    strides = F.pad(spans[1:], (0, 1), value=1)
    base = ((corners - low) * strides).sum(1)
    if images is not None:
        base = base + images * spans[0]
    turns = [base]
    for number in range(1, d + 1):
        moved = torch.where(rank[:, :d] <= d - number, number, number - (d + 1))
        turns.append(base + (moved * strides).sum(1))
    ones = strides.sum()
    return torch.stack(turns, 1), torch.cat((ones - (d + 1) * strides, ones[None]))


def _neighbours(keys: Tensor, steps: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return, for each axis, the row numbers (m + 1,) of the vertices before and after each vertex.

    keys: integers (m,) of the vertices, increasing. steps: (d + 1,), from `_packed`. The number m stands
    for a missing vertex, and for the neighbours of the extra last row.
    """
    count = len(keys)
    rows = torch.arange(count, device=keys.device, dtype=torch.int32)
    axes = []
    for step in steps:
        position = torch.searchsorted(keys, keys + step).clamp_(max=count - 1)
        after = torch.where(keys[position] == keys + step, position, count)
        before = torch.full((count + 1,), count, device=keys.device, dtype=torch.int32)
        before[after] = rows
        before[count] = count
        axes.append((before, F.pad(after.int(), (0, 1), value=count)))
    return axes
