"""The Semantic Boundaries Dataset (SBD; Hariharan et al., ICCV 2011): masks of further VOC images.

Its split is unrelated to VOC's: its training set contains images of VOC's val.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsss.datasets.mat_file import MatFile
from wsss.datasets.name_list import read_names
from wsss.errors import DatasetError
from wsss.storage.content import refuse_pipe

LISTS = ("train.txt", "val.txt")


def names(folder: Path) -> set[str]:
    """Return the ids of all images; `folder` is `benchmark_RELEASE/dataset` of the archive."""
    ids: set[str] = set()
    for name in LISTS:
        advice = (
            "Set data.voc12.sbd to the folder `dataset` of SBD (`wsss data fetch voc12`), or to '' to "
            "do without."
        )
        ids.update(read_names(folder / name, advice))
    return ids


def path_of(folder: Path, name: str) -> Path:
    """Return the file with the mask of an image."""
    return folder / "cls" / f"{name}.mat"


def load_mask(folder: Path, name: str) -> NDArray[np.uint8]:
    """Return the label mask (H, W) of an image, values 0 to 20; SBD has no void label."""
    path = path_of(folder, name)
    try:
        refuse_pipe(path)
        return MatFile(path.read_bytes()).values("GTcls", "Segmentation")
    except (OSError, ValueError, struct.error, zlib.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(
            f"{path} holds no GTcls.Segmentation ({reason}). Unpack benchmark.tgz of SBD again."
        ) from None
