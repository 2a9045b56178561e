"""From joined class maps to the CAM that is stored: sizes, the range from 0 to 1, present classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wsss.storage.cam_archive import Cam, grid

SizeRule = Callable[[tuple[int, int]], tuple[int, int]]  # from an image's size to that of its maps

HIGH_MULTIPLE = 16  # the stride of IRNet's classifier
MAX_EPSILON = 1e-5  # added to the largest score before dividing by it (PSA, IRNet)


def over_max(maps: Tensor) -> Tensor:
    """Return maps (..., h, w), each divided by its largest score (PSA, IRNet)."""
    return maps / (maps.amax((-2, -1), keepdim=True) + MAX_EPSILON)


def over_range(maps: Tensor) -> Tensor:
    """Return maps (..., h, w), each less its smallest score and divided by its range (MCTformer)."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low + 1e-8)


def over_range_cut(maps: Tensor) -> Tensor:
    """Do what `over_range` does with what is above the smallest score by 1e-5 (PCSS)."""
    maps = F.relu(maps)
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return F.relu(maps - low - 1e-5) / (high - low + 1e-5)


def over_range_signed(maps: Tensor) -> Tensor:
    """Do what `over_range_cut` does, but leave what becomes negative so (TransCAM, PCSformer).

    That is what is no more than 1e-5 above the smallest score; a map of zeros becomes -1.
    """
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    kept = maps.masked_fill(maps < low + 1e-5, 0)
    return (kept - low - 1e-5) / (high - low + 1e-5)


def stretch(maps: Tensor) -> Tensor:
    """Return maps (..., h, w), each less its smallest score, then divided by its largest (ToCo)."""
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
    """Return the maps (C, h, w) of the present classes, each brought to [0, 1].

    high: maps of `high_size`, if they are wanted too. normalise: how, one of NORMALISERS.
    """
    own = _present(maps, labels, normalise)
    cut = None if high is None else _present(high[:, : size[0], : size[1]], labels, normalise)
    return Cam(np.array(labels, np.int16), own, size, stride, cut)


def _present(maps: Tensor, labels: Sequence[int], normalise: str) -> NDArray[np.float16]:
    return _stored(NORMALISERS[normalise](maps[list(labels)]) if labels else maps[:0])


def _stored(maps: Tensor) -> NDArray[np.float16]:
    found: NDArray[np.float16] = maps.cpu().numpy().astype(np.float16)
    return found


def square_cam(maps: Tensor, labels: Sequence[int], size: tuple[int, int], params: Any) -> Cam:
    """Return what `to_cam` does of the maps (C, s, s) of a square, brought to [0, 1] there.

    size: of the image (h, w). params: `CamParams`.
    """
    sizes = [grid(size, params.stride), *([size] if params.high_res else [])]
    if labels:
        present = NORMALISERS[params.normalise](maps[list(labels)])[None]
        found = [F.interpolate(present, own, mode="bilinear")[0] for own in sizes]
    else:
        found = [maps.new_zeros(0, *own) for own in sizes]
    own, *high = map(_stored, found)
    return Cam(np.array(labels, np.int16), own, size, params.stride, *high)


def cam_sizes(params: Any) -> list[SizeRule]:
    """Return the sizes that looks are joined at: of the CAM and, if wanted, of the image, or a square.

    params: `CamParams`.
    """
    if params.at_square:
        return [lambda _: (params.square_px, params.square_px)]
    return [cam_size(params.stride), *([high_size] if params.high_res else [])]


def joined_cam(
    maps: Sequence[Tensor], labels: Sequence[int], size: tuple[int, int], params: Any
) -> Cam:
    """Return the CAM of an image of `size` (h, w) from its maps (C, h, w) at `cam_sizes(params)`."""
    if params.clip == "sum":
        maps = [F.relu(own) for own in maps]
    if params.at_square:
        return square_cam(maps[0], labels, size, params)
    high = maps[1] if params.high_res else None
    return to_cam(maps[0], labels, size, params.stride, high, params.normalise)


def cam_size(stride: int) -> SizeRule:
    """Return the function from an image's size to its grid at `stride`."""
    return lambda size: grid(size, stride)


def high_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the maps that IRNet cuts to the image: the next multiples of 16 px."""
    rows, columns = grid(size, HIGH_MULTIPLE)
    return rows * HIGH_MULTIPLE, columns * HIGH_MULTIPLE
