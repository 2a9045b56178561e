"""The one store of class maps: CAMs and walked CAMs, present classes only, packed in a zip.

A member `<image name>.npz` holds `labels` int16 (K,), class numbers from 0; `cam` float16 (K, h, w)
in [0, 1]; `size` int32 (H, W), the image in pixels; `stride`, pixels of the image per cell; and, if
they were asked for, `high` float16 (K, H, W), the maps at the size of the image, and `background`
float16 (1, h, w), which walked along with them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsss.errors import DatasetError
from wsss.storage.archive import Reader, pack_arrays, unpack_arrays


@dataclass(frozen=True)
class Cam:
    """Class maps of one image: labels (K,), cam (K, h, w) in [0, 1], size (H, W) in pixels.

    high: the maps at the size of the image, where they were made on their own (IRNet).
    background: a map (1, h, w) beside them that walked along (PSA).
    """

    labels: NDArray[np.int16]
    cam: NDArray[np.float16]
    size: tuple[int, int]
    stride: int
    high: NDArray[np.float16] | None = None
    background: NDArray[np.float16] | None = None

    def full(self) -> NDArray[np.float32]:
        """Return the maps at the size of the image (K, H, W).

        They are `high`, or else `cam`, enlarged by the stride (bilinear) and cut.
        """
        if self.high is not None:
            return self.high.astype(np.float32)
        return enlarge(self.cam, self.size, self.stride)

    def full_background(self, threshold: float) -> NDArray[np.float32]:
        """Return the score of the background at the size of the image (1, H, W).

        It is the map that walked along, or else `threshold` everywhere.
        """
        if self.background is None:
            return np.full((1, *self.size), threshold, np.float32)
        return enlarge(self.background, self.size, self.stride)


def enlarge(maps: NDArray[Any], size: tuple[int, int], stride: int) -> NDArray[np.float32]:
    """Return maps (K, h, w) enlarged by `stride` (bilinear, by the factor) and cut to `size`."""
    height, width = size
    large = np.zeros((len(maps), height, width), np.float32)
    for target, source in zip(large, maps.astype(np.float32), strict=True):
        enlarged = (source.shape[1] * stride, source.shape[0] * stride)
        resized = Image.fromarray(source).resize(enlarged, Image.Resampling.BILINEAR)
        target[:] = np.asarray(resized)[:height, :width]
    return large


def grid(size: Sequence[int], stride: int) -> tuple[int, int]:
    """Return the cells (h, w) that cover an image of `size` (H, W): every cell begins inside it."""
    return (size[0] - 1) // stride + 1, (size[1] - 1) // stride + 1


def pack(cam: Cam) -> bytes:
    """Return one image's maps as the bytes of a member; equal maps give equal bytes."""
    arrays: dict[str, NDArray[Any]] = {
        "labels": cam.labels.astype(np.int16),
        "cam": cam.cam.astype(np.float16),
        "size": np.array(cam.size, np.int32),
        "stride": np.array(cam.stride, np.int32),
    }
    for name, extra in (("high", cam.high), ("background", cam.background)):
        if extra is not None:
            arrays[name] = extra.astype(np.float16)
    return pack_arrays(arrays)


def unpack(content: bytes, name: str) -> Cam:
    """Return one image's maps; `DatasetError` if they are not whole."""
    try:
        arrays: dict[str, NDArray[Any]] = unpack_arrays(content)
        size = (int(arrays["size"][0]), int(arrays["size"][1]))
        labels, maps = arrays["labels"], arrays["cam"]
        if labels.ndim != 1 or maps.ndim != 3 or len(labels) != len(maps):
            raise ValueError(f"{labels.shape} labels of {maps.shape} maps")
        extra = arrays.get("high"), arrays.get("background")
        return Cam(labels, maps, size, int(arrays["stride"]), *extra)
    except (KeyError, ValueError, TypeError, IndexError, DatasetError) as error:
        raise DatasetError(
            f"The CAM of {name!r} is damaged ({error}). Make its archive again."
        ) from None


class CamReader:
    """Read maps by image name."""

    def __init__(self, path: Path) -> None:
        self._reader = Reader(path)

    def __getitem__(self, name: str) -> Cam:
        return unpack(self._reader.read(f"{name}.npz"), name)

    def __iter__(self) -> Iterator[str]:
        return (name.removesuffix(".npz") for name in self._reader.names())


@functools.cache
def cam_reader(path: Path) -> CamReader:
    """Return the reader of an archive, opened once in each process that works on its images."""
    return CamReader(path)
