"""From class maps to better ones: dense CRF, affinities, random walk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsss.api.arrays import ImageLike, check_same_size, class_maps, image_pixels, plain_array
from wsss.errors import ConfigError, DatasetError
from wsss.refine.crf import check_installed, refine_scores
from wsss.storage import cam_archive

Offset = tuple[int, int]  # (dy, dx) in cells


@dataclass(frozen=True)
class Affinities:
    """The affinities between the cells of a grid over an image.

    pairs: by offset (dy, dx) in cells, the affinities float32 (rows, columns) in [0, 1] of all cells
    that have a neighbour at this offset. grid: rows and columns of cells. margin: cells nearer than
    this to the left, right or lower edge have no pairs; 0 but for published settings. stride: pixels
    per cell, if a network gave them.
    """

    pairs: Mapping[Offset, NDArray[np.float32]]
    grid: tuple[int, int]
    margin: int = 0
    stride: int | None = None


def crf(
    image: ImageLike, scores: ArrayLike, name: str = "psa", device: str | None = None
) -> NDArray[np.float32]:
    """Return the posterior (K, H, W) in [0, 1] of scores after a dense CRF; it sums to 1 over K.

    image: (H, W, 3). scores: (K, H, W) in [0, 1] of K labels, background included; smaller scores than
    1e-5 count as 1e-5. name: a set of parameters, as in the setting `pseudo.crf`; `none` returns the
    scores. device: None computes with pydensecrf; `cpu` or `cuda` with PyTorch, whose labels agree on more
    than 99.9 % of the pixels. The pseudo labels of a run are the argmax of this posterior.

    Source: Kraehenbuehl and Koltun, NeurIPS 2011.

    Raises:
        ConfigError: there is no set of this name, or no such device.
        DatasetError: image and scores do not fit together, or scores are not finite.
        MissingError: pydensecrf2 is not installed, and no device is given.
    """
    pixels, values = image_pixels(image), class_maps(scores, "scores")
    check_same_size(pixels, values, "image and scores")
    if len(values) < 2 and name != "none":
        raise DatasetError(
            "scores has one map. A CRF needs two labels or more, such as background."
        )
    _check_device(device)
    check_installed(name, device)
    return np.asarray(refine_scores(pixels, values, name, device), np.float32)


def _check_device(device: str | None) -> None:
    if device in (None, "cpu"):
        return
    import torch  # noqa: PLC0415  # takes seconds

    is_cuda = str(device).partition(":")[0] == "cuda"
    if not is_cuda or not torch.cuda.is_available():
        reason = ", but PyTorch finds no GPU here" if is_cuda else ""
        raise ConfigError(
            f"device is {device!r}{reason}. It can be None (pydensecrf), 'cpu' or 'cuda' (PyTorch)."
        )


def _check_number(value: float, name: str, smallest: float) -> None:
    if not value >= smallest:
        raise ConfigError(f"{name} is {value}. Give a number of {smallest:g} or more.")


def affinities(values: ArrayLike, radius: int = 5, margin: int = 0) -> Affinities:
    """Return the affinities in [0, 1] of the cells of a grid.

    values: features (C, h, w), whose affinity is exp(-mean |difference|) (PSA: Ahn and Kwak, CVPR
    2018, Eq. 1), or edges (h, w) in [0, 1], whose affinity is 1 minus the strongest edge between two
    cells (IRNet: Ahn et al., CVPR 2019, Eq. 3). radius: pairs are nearer than this, in cells. margin:
    as in `Affinities`.

    Raises:
        DatasetError: the values have another shape.
    """
    import torch  # noqa: PLC0415  # takes seconds

    from wsss.refine.affinity import pair_affinities, path_affinities  # noqa: PLC0415

    _check_number(radius, "radius", 2)
    array = np.require(plain_array(values), np.float32, ("C", "W"))
    if array.ndim not in (2, 3):
        raise DatasetError(
            f"values has the shape {array.shape}. Give features (C, h, w) or edges (h, w)."
        )
    formula = pair_affinities if array.ndim == 3 else path_affinities
    pairs = formula(torch.from_numpy(array)[None], radius, margin)
    grid = (array.shape[-2], array.shape[-1])
    return Affinities({offset: part[0].numpy() for offset, part in pairs}, grid, margin)


def random_walk(
    maps: ArrayLike,
    affinities: Affinities | Mapping[Offset, ArrayLike],
    beta: float = 8.0,
    steps: int = 256,
    margin: int = 0,
) -> NDArray[np.float64]:
    """Return maps (K, h, w) after `steps` steps of a random walk along affinities.

    In each step a cell takes the average of its neighbours, itself included, weighted by the affinities
    to the power `beta`. The scores keep their unit and do not leave the range of `maps`.

    maps: (K, h, w), one score per cell of the grid; `cells` makes them from maps at image size.
    affinities: of `wsss.affinities` or `Model.affinities`, or a mapping from offsets to arrays, with its
    `margin`. beta, steps: 8 and 256 (PSA), 10 and 256 (IRNet).

    Raises:
        DatasetError: maps and affinities have other grids.
    """
    from wsss.refine import random_walk as walk  # noqa: PLC0415  # imports torch

    _check_number(beta, "beta", 0)
    _check_number(steps, "steps", 0)
    values = class_maps(maps)
    height, width = values.shape[1:]
    if isinstance(affinities, Affinities):
        near = affinities
    else:
        pairs = {offset: plain_array(part) for offset, part in affinities.items()}
        near = Affinities(pairs, (height, width), margin)
    _check_grid(near, (height, width))
    step = walk.transition(near.pairs.items(), height, width, beta, near.margin)
    return walk.random_walk(values, step, int(steps))


def _check_grid(near: Affinities, grid: tuple[int, int]) -> None:
    from wsss.refine.affinity import windows  # noqa: PLC0415

    if near.grid != grid:
        raise DatasetError(f"maps have the grid {grid}, affinities {near.grid}. Use `cells` first.")
    for offset, part in near.pairs.items():
        rows, columns = windows(*grid, offset, near.margin)[0]
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        if part.shape != shape:
            raise DatasetError(
                f"The affinities at the offset {offset} have the shape {part.shape}, but a grid of {grid} "
                f"with margin {near.margin} has {shape} such pairs."
            )


def cells(maps: ArrayLike, stride: int) -> NDArray[np.float32]:
    """Return the means (K, h, w) of maps (K, H, W) over cells of `stride` pixels, padded with 0."""
    from wsss.refine import random_walk as walk  # noqa: PLC0415  # imports torch

    _check_number(stride, "stride", 1)
    return walk.cells(class_maps(maps), stride)


def enlarge(maps: ArrayLike, size: tuple[int, int], stride: int) -> NDArray[np.float32]:
    """Return maps (K, h, w) enlarged bilinearly by `stride` and cut to `size` (H, W) in pixels."""
    _check_number(stride, "stride", 1)
    values: NDArray[Any] = class_maps(maps)
    return cam_archive.enlarge(values, size, stride)
