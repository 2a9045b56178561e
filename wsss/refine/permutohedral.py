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


def bilateral(image: Tensor, values: Tensor, colour: float, position_px: float) -> Tensor:
    """Return sums (C, H, W) of `values` over near pixels of like colour, with Gaussian weights.

    image: (3, H, W) in [0, 255]. values: (C, H, W). colour, position_px: standard deviations, in grey
    levels and pixels. The weights do not sum to one, and a pixel counts itself.
    """
    height, width = image.shape[1:]
    rows, columns = (torch.arange(n, device=image.device).float() for n in (height, width))
    places = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), 2).flatten(0, 1)
    colours = image.float().flatten(1).T
    points = torch.cat((places / position_px, colours / colour), 1)
    return gaussian(points, values.float().flatten(1).T).T.reshape(values.shape)


def gaussian(points: Tensor, values: Tensor) -> Tensor:
    """Return `values` (n, C) blurred by a Gaussian of unit width between `points` (n, d)."""
    return Lattice(points).blur(values)


class Lattice:
    """The lattice of points (n, d); it can blur any number of values."""

    def __init__(self, points: Tensor) -> None:
        vertices, self.shares = _simplices(points)
        keys, self.where = _numbered(vertices.flatten(0, 1))
        self.size, self.dimensions = len(keys), points.shape[1]
        self.neighbours = _neighbours(keys, self.dimensions)

    def blur(self, values: Tensor) -> Tensor:
        """Return `values` (n, C) blurred by a Gaussian of unit width."""
        spread = (self.shares[:, :, None] * values[:, None]).flatten(0, 1)
        # The last row stands for missing vertices.
        grid = values.new_zeros(self.size + 1, values.shape[1])
        grid.index_add_(0, self.where, spread)
        for before, after in self.neighbours:
            grid = grid + 0.5 * (grid[before] + grid[after])
            grid[-1] = 0
        read = grid[self.where].view(len(values), self.dimensions + 1, -1)
        return (read * self.shares[:, :, None]).sum(1) / (1 + 2.0**-self.dimensions)


def _simplices(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the vertices (n, d + 1, d) of each point's simplex and its shares of them (n, d + 1)."""
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
    steps = order[:, None, None]
    moved = torch.where(rank[None] <= d - steps, steps, steps - (d + 1))
    vertices = (floors.long() * (d + 1))[None] + moved
    return vertices[:, :, :d].transpose(0, 1), shares[:, : d + 1]


def _elevated(points: Tensor) -> Tensor:
    """Return points (n, d) as (n, d + 1), in the hyperplane of coordinates that sum to zero."""
    d = points.shape[1]
    scales = [math.sqrt(2 / 3) * (d + 1) / math.sqrt((j + 1) * (j + 2)) for j in range(d)]
    scaled = points * points.new_tensor(scales)
    behind = F.pad(scaled.flip(1).cumsum(1).flip(1), (0, 1))  # sums of the coordinates from j on
    before = F.pad(scaled, (1, 0))
    return behind - before * torch.arange(d + 1, device=points.device)


def _numbered(vertices: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct vertices (m, d), sorted, and the row of each input vertex in them (n,)."""
    low, span, strides = _digits(vertices)
    keys, where = torch.unique(_packed(vertices, vertices), return_inverse=True)
    return keys[:, None] // strides % span + low, where


def _packed(vertices: Tensor, reference: Tensor) -> Tensor:
    """Return one integer (n,) per vertex (n, d), unique within the range of `reference` (m, d)."""
    low, _, strides = _digits(reference)
    return ((vertices - low) * strides).sum(1)


def _digits(reference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the smallest coordinate, the number of coordinates and the place value of each axis (d,)."""
    d = reference.shape[1]
    low, high = reference.amin(0) - d, reference.amax(0) + d
    span = high - low + 1
    return low, span, F.pad(span.flip(0).cumprod(0).flip(0)[1:], (0, 1), value=1)


def _neighbours(keys: Tensor, d: int) -> list[tuple[Tensor, Tensor]]:
    """Return, for each axis, the row numbers (m + 1,) of the vertices before and after each vertex.

    The number len(keys) stands for a missing vertex, and for the neighbours of the extra last row.
    """
    packed = _packed(keys, keys)
    order = packed.argsort()
    ordered = packed[order]
    axes = []
    for axis in range(d + 1):
        step = torch.ones(d, dtype=torch.long, device=keys.device)
        if axis < d:
            step[axis] = -d
        pair = []
        for vertices in (_packed(keys - step, keys), _packed(keys + step, keys)):
            position = torch.searchsorted(ordered, vertices).clamp(max=len(ordered) - 1)
            number = torch.where(ordered[position] == vertices, order[position], len(keys))
            pair.append(F.pad(number, (0, 1), value=len(keys)))
        axes.append((pair[0], pair[1]))
    return axes
