"""From the merged maps of all views to the stored CAM: normalised maps of the present classes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wsss.settings import CamParams
from wsss.storage.cam_archive import Cam, grid

# From the size (height, width) of an image to the size of its maps.
SizeRule = Callable[[tuple[int, int]], tuple[int, int]]

HIGH_MULTIPLE = 16  # the stride of IRNet's classifier
MAX_EPSILON = 1e-5  # added to the largest score before dividing by it (PSA, IRNet)


def over_max(maps: Tensor) -> Tensor:
    """Divide each of the maps (..., h, w) by its largest score (PSA, IRNet)."""
    return maps / (maps.amax((-2, -1), keepdim=True) + MAX_EPSILON)


def over_range(maps: Tensor) -> Tensor:
    """Subtract its smallest score from each of the maps (..., h, w), divide by the range (MCTformer)."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low + 1e-8)


def over_range_cut(maps: Tensor) -> Tensor:
    """Like `over_range`, but subtract 1e-5 more, with negative scores set to 0 before and after (PCSS)."""
    maps = F.relu(maps)
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return F.relu(maps - low - 1e-5) / (high - low + 1e-5)


def over_range_signed(maps: Tensor) -> Tensor:
    """Like `over_range_cut`, without clipping negative values (TransCAM, PCSformer).

    Scores up to 1e-5 above the smallest one become negative; a map of zeros becomes -1.
    """
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    raised = maps.masked_fill(maps < low + 1e-5, 0)
    return (raised - low - 1e-5) / (high - low + 1e-5)


def stretch(maps: Tensor) -> Tensor:
    """Subtract its smallest score from each of the maps (..., h, w), divide by the largest (ToCo)."""
    return over_max(maps - maps.amin((-2, -1), keepdim=True))


NORMALISERS = {
    "max": over_max,
    "range": over_range,
    "range_cut": over_range_cut,
    "range_signed": over_range_signed,
    "stretch": stretch,
}


def to_cam(
    maps: Tensor,
    labels: Sequence[int],
    size: tuple[int, int],
    stride: int,
    high: Tensor | None = None,
    normalise: str = "max",
) -> Cam:
    """Return the CAM of an image of `size` (h, w) from its maps (C, h', w'), normalised by class.

    labels: numbers of the present classes. high: maps of `high_size`, if they are stored too; they
    are cut to the image. normalise: a key of NORMALISERS.
    """
    scores = _present(maps, labels, normalise)
    cut = None if high is None else _present(high[:, : size[0], : size[1]], labels, normalise)
    return Cam(np.array(labels, np.int16), scores, size, stride, cut)


def _present(maps: Tensor, labels: Sequence[int], normalise: str) -> NDArray[np.float16]:
    return _stored(NORMALISERS[normalise](maps[list(labels)]) if labels else maps[:0])


def _stored(maps: Tensor) -> NDArray[np.float16]:
    return np.asarray(maps.cpu().numpy(), np.float16)


def square_cam(
    maps: Tensor, labels: Sequence[int], size: tuple[int, int], params: CamParams
) -> Cam:
    """Return the CAM of an image of `size` (h, w) from its maps (C, s, s) at a square.

    The maps are normalised at the square and then resized.
    """
    sizes = [grid(size, params.stride), *([size] if params.high_res else [])]
    if labels:
        square = NORMALISERS[params.normalise](maps[list(labels)])[None]
        resized = [F.interpolate(square, target, mode="bilinear")[0] for target in sizes]
    else:
        resized = [maps.new_zeros(0, *target) for target in sizes]
    scores, *high = map(_stored, resized)
    return Cam(np.array(labels, np.int16), scores, size, params.stride, *high)


def merged_cam(
    maps: Sequence[Tensor], labels: Sequence[int], size: tuple[int, int], params: CamParams
) -> Cam:
    """Return the CAM of an image of `size` (h, w) from its merged maps.

    maps: (C, h', w') at each of the `map_sizes` of `views.cam_augmentation`.
    """
    if params.clip == "sum":
        maps = [F.relu(scores) for scores in maps]
    if params.at_square:
        return square_cam(maps[0], labels, size, params)
    high = maps[1] if params.high_res else None
    return to_cam(maps[0], labels, size, params.stride, high, params.normalise)


def cam_size(stride: int) -> SizeRule:
    """Return the function from the size of an image to the size of its grid at `stride`."""
    return functools.partial(grid, stride=stride)


def high_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the maps that IRNet cuts to the image: the next multiples of 16 px."""
    rows, columns = grid(size, HIGH_MULTIPLE)
    return rows * HIGH_MULTIPLE, columns * HIGH_MULTIPLE
