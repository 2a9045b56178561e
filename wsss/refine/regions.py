"""SEPL: pseudo labels snapped to the binary masks of regions, such as those of SAM (Chen et al., 2023).

The rule is that of the published code with its default `max_iou_imp2`. Differences: masks keep the order
of their file, and a 255 stays where no region is painted (the published code makes it background).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsss.data.labelmap import IGNORE
from wsss.errors import DatasetError, MissingError
from wsss.storage.archive import Reader, read_path
from wsss.storage.plain_npy import load_arrays

COVERED = 0.85  # a mask with at least this share of a class's pixels is taken (SEPL's code)
KEY = "masks"  # the array in the file of an image


def snap(labels: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return labels (H, W) whose classes fill the masks (N, H, W) that they mostly cover.

    A class takes a mask if more than half of the mask is of this class, or if the mask holds nearly the
    whole class. It becomes the union of its masks and of those pixels that no mask covers. Classes come in
    ascending order: a mask that one has taken counts no more for the next, and the next paints over it.
    """
    snapped = np.where(labels == IGNORE, np.uint8(IGNORE), np.uint8(0))
    areas = masks.sum((1, 2))
    is_free = np.ones(len(masks), bool)
    for label in np.unique(labels[(labels > 0) & (labels != IGNORE)]):
        region = labels == label
        shared = (masks & region).sum((1, 2))
        is_taken = is_free & ((2 * shared > areas) | (shared >= COVERED * region.sum()))
        region &= ~masks[is_free].any(0)
        snapped[region | masks[is_taken].any(0)] = label
        is_free &= ~is_taken
    return snapped


def load_regions(regions: Path, name: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the masks (N, H, W) of the image `name` from the archive or folder `regions`.

    Raises:
        DatasetError: the file is damaged, or its masks are not binary or have another size than the image.
    """
    path = regions / f"{name}.npz"
    try:
        masks: NDArray[np.bool_] = load_arrays(read_path(path), str(path))[KEY]
    except KeyError:
        raise DatasetError(
            f"{path} has no array {KEY!r}. Write it as docs/regions.md says."
        ) from None
    except MissingError:
        raise DatasetError(
            f"{path} is missing or damaged. Write it again (docs/regions.md)."
        ) from None
    if masks.ndim != 3 or masks.shape[1:] != size or masks.dtype != np.bool_:
        raise DatasetError(
            f"{path} has masks of shape {masks.shape} and type {masks.dtype}, not (N, {size[0]}, {size[1]}) "
            "and bool. Write it as docs/regions.md says."
        )
    return masks


def check_regions(regions: Path, names: list[str]) -> None:
    """Raise an error unless the archive or folder `regions` has a file for every image.

    Raises:
        MissingError: there is nothing at this path.
        DatasetError: files are missing in it.
    """
    if not regions.exists():
        raise MissingError(
            f"{regions} is missing. Put the masks of regions there, or correct pseudo.regions."
        )
    present = _members(regions)
    missing = [name for name in names if f"{name}.npz" not in present]
    if missing:
        raise DatasetError(
            f"{regions} lacks the masks of {len(missing)} of {len(names)} training images (the first is "
            f"{missing[0]}.npz). Add them (docs/regions.md), or set pseudo.regions: null."
        )


def _members(regions: Path) -> set[str]:
    if regions.is_dir():
        return {path.name for path in regions.iterdir()}
    try:
        return set(Reader(regions).names())
    except MissingError:
        raise DatasetError(
            f"{regions} is not a whole zip archive. Write it again (docs/regions.md)."
        ) from None


def region_files(regions: Path, names: list[str]) -> list[Path]:
    """Return the files that the masks of images are read from: the archive, or one for each image."""
    return [regions / f"{name}.npz" for name in names] if regions.is_dir() else [regions]
