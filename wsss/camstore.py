"""The one store of class maps: CAMs and walked CAMs, present classes only, packed in a zip.

A member `<image name>.npz` holds `labels` int16 (K,), class numbers from 0; `cam` float16 (K, h, w)
in [0, 1]; `size` int32 (H, W), the image in pixels; `stride`, pixels of the image per cell; and, if
it was asked for, `high` float16 (K, H, W), the maps at the size of the image.
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

from wsss.archive import Reader, pack_arrays, unpack_arrays
from wsss.errors import DatasetError


@dataclass(frozen=True)
class Cam:
    """Class maps of one image: labels (K,), cam (K, h, w) in [0, 1], size (H, W) in pixels.

    high: the maps at the size of the image, where they were made on their own (IRNet).
    """

    labels: NDArray[np.int16]
    cam: NDArray[np.float16]
    size: tuple[int, int]
    stride: int
    high: NDArray[np.float16] | None = None

    def full(self) -> NDArray[np.float32]:
        """Return the maps at the size of the image (K, H, W).

        They are `high`, or else `cam`, enlarged by the stride (bilinear) and cut.
        """
        if self.high is not None:
            return self.high.astype(np.float32)
        height, width = self.size
        maps = np.zeros((len(self.labels), height, width), np.float32)
        for target, source in zip(maps, self.cam.astype(np.float32), strict=True):
            enlarged = (source.shape[1] * self.stride, source.shape[0] * self.stride)
            resized = Image.fromarray(source).resize(enlarged, Image.Resampling.BILINEAR)
            target[:] = np.asarray(resized)[:height, :width]
        return maps


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
    if cam.high is not None:
        arrays["high"] = cam.high.astype(np.float16)
    return pack_arrays(arrays)


def unpack(content: bytes, name: str) -> Cam:
    """Return one image's maps; `DatasetError` if they are not whole."""
    try:
        arrays: dict[str, NDArray[Any]] = unpack_arrays(content)
        size = (int(arrays["size"][0]), int(arrays["size"][1]))
        high = arrays.get("high")
        return Cam(arrays["labels"], arrays["cam"], size, int(arrays["stride"]), high)
    except (KeyError, ValueError, OSError) as error:
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
