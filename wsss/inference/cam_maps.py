"""From the merged maps of all views to the stored CAM: normalised maps of the present classes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.machine.runtime import fetch
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


def as_is(maps: Tensor) -> Tensor:
    """Return maps that are in [0, 1] already (CLIP-ES)."""
    return maps


NORMALISERS = {
    "max": over_max,
    "range": over_range,
    "range_cut": over_range_cut,
    "range_signed": over_range_signed,
    "stretch": stretch,
    "none": as_is,
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
    params = CamParams.model_validate(
        {"stride": stride, "normalise": normalise, "high_res": high is not None}
    )
    return merged_cam([maps] if high is None else [maps, high], labels, size, params)


def merged_cam(
    maps: Sequence[Tensor], labels: Sequence[int], size: tuple[int, int], params: CamParams
) -> Cam:
    """Return the CAM of an image of `size` (h, w) from its merged maps.

    maps: (C, h', w') at each of the `map_sizes` of `views.cam_augmentation`.
    """
    (cam,) = merged_cams([scores[None] for scores in maps], [labels], size, params)()
    return cam


def merged_cams(
    maps: Sequence[Tensor],
    labels: Sequence[Sequence[int]],
    size: tuple[int, int],
    params: CamParams,
) -> Callable[[], list[Cam]]:
    """Return a function that waits for the CAMs of a batch of images and returns them.

    The CAMs are computed and copied on the device meanwhile. maps: (B, C, h', w') at each of the
    `map_sizes` of `views.cam_augmentation`. labels: numbers of the classes present in each image.
    size: (h, w) of the images.
    """
    copies = [fetch(scores) for scores in _stored_maps(maps, labels, size, params)]
    counts = [len(numbers) for numbers in labels]

    def wait() -> list[Cam]:
        rows = [np.split(copy().numpy(), np.cumsum(counts)[:-1]) for copy in copies]
        return [
            Cam(np.array(numbers, np.int16), scores, size, params.stride, *high)
            for numbers, scores, *high in zip(labels, *rows, strict=True)
        ]

    return wait


def _stored_maps(
    maps: Sequence[Tensor],
    labels: Sequence[Sequence[int]],
    size: tuple[int, int],
    params: CamParams,
) -> list[Tensor]:
    """Return the maps (N, h', w') of the N classes present in all images, normalised, as float16.

    With `high_res` the second of the tensors has the size of the images.
    """
    present = [_present(scores, labels) for scores in maps]
    if params.clip == "sum":
        present = [F.relu(scores) for scores in present]
    normalise = NORMALISERS[params.normalise]
    if not params.at_square:
        cut = (slice(None), slice(size[0]), slice(size[1]))
        stored = [present[0], *([present[1][cut]] if params.high_res else [])]
        return [normalise(scores).half() for scores in stored]
    targets = [grid(size, params.stride), *([size] if params.high_res else [])]
    if not len(present[0]):
        return [present[0].new_zeros(0, *target).half() for target in targets]
    square = normalise(present[0])[None]
    return [F.interpolate(square, target, mode="bilinear")[0].half() for target in targets]


def _present(maps: Tensor, labels: Sequence[Sequence[int]]) -> Tensor:
    """Return the maps (N, h, w) of the N classes present in images (B, C, h, w), image by image."""
    places = [(image, number) for image, numbers in enumerate(labels) for number in numbers]
    chosen = torch.tensor(places, dtype=torch.long).view(-1, 2).to(maps.device, non_blocking=True)
    return maps[chosen[:, 0], chosen[:, 1]]


def cam_size(stride: int) -> SizeRule:
    """Return the function from the size of an image to the size of its grid at `stride`."""
    return functools.partial(grid, stride=stride)


def high_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the maps that IRNet cuts to the image: the next multiples of 16 px."""
    rows, columns = grid(size, HIGH_MULTIPLE)
    return rows * HIGH_MULTIPLE, columns * HIGH_MULTIPLE
