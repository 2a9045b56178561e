"""Archives of class maps: CAMs and walked CAMs of the classes present in each image.

A member `<image name>.npz` holds `labels` int16 (K,), class numbers from 0; `cam` float16 (K, h, w)
in [0, 1]; `size` int32 (H, W), the image size in pixels; `stride`, image pixels per map cell; and, for
some methods, `high` float16 (K, H, W), maps at image size, and `background` float16 (1, h, w), a
background score that took part in the random walk.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsss.errors import DatasetError
from wsss.storage.archive import Array, Reader, pack_arrays, unpack_arrays
from wsss.storage.files import identity


@dataclass(frozen=True)
class Cam:
    """Class maps of one image: labels (K,), cam (K, h, w) in [0, 1], size (H, W) in pixels.

    high: maps at image size (K, H, W), if the method computes them separately (IRNet).
    background: background score (1, h, w), if it took part in the random walk (PSA).
    """

    labels: NDArray[np.int16]
    cam: NDArray[np.float16]
    size: tuple[int, int]
    stride: int
    high: NDArray[np.float16] | None = None
    background: NDArray[np.float16] | None = None

    def full(self) -> NDArray[np.float32]:
        """Return the maps at image size (K, H, W): `high`, or else `cam` enlarged by the stride."""
        if self.high is not None:
            return self.high.astype(np.float32)
        return enlarge(self.cam, self.size, self.stride)

    def full_background(self, threshold: float) -> NDArray[np.float32]:
        """Return the background score at image size (1, H, W): `background`, or else `threshold`."""
        if self.background is None:
            return np.full((1, *self.size), threshold, np.float32)
        return enlarge(self.background, self.size, self.stride)


def enlarge(maps: Array, size: tuple[int, int], stride: int) -> NDArray[np.float32]:
    """Return maps (K, h, w) enlarged bilinearly by `stride` and cropped to `size` (H, W)."""
    height, width = size
    large = np.zeros((len(maps), height, width), np.float32)
    for target, source in zip(large, maps.astype(np.float32), strict=True):
        enlarged = (source.shape[1] * stride, source.shape[0] * stride)
        resized = Image.fromarray(source).resize(enlarged, Image.Resampling.BILINEAR)
        target[:] = np.asarray(resized)[:height, :width]
    return large


def grid(size: Sequence[int], stride: int) -> tuple[int, int]:
    """Return the number of cells (h, w) that cover an image of `size` (H, W)."""
    return (size[0] - 1) // stride + 1, (size[1] - 1) // stride + 1


def pack(cam: Cam) -> bytes:
    """Return the bytes of an archive member; equal maps give equal bytes."""
    arrays: dict[str, Array] = {
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
    """Return the maps of the image `name` from a member's bytes; `DatasetError` if damaged."""
    try:
        arrays = unpack_arrays(content)
        size = (int(arrays["size"][0]), int(arrays["size"][1]))
        labels, maps = arrays["labels"], arrays["cam"]
        if labels.ndim != 1 or maps.ndim != 3 or len(labels) != len(maps):
            raise ValueError(f"labels {labels.shape} do not fit maps {maps.shape}")
        extra = arrays.get("high"), arrays.get("background")
        return Cam(labels, maps, size, int(arrays["stride"]), *extra)
    except (KeyError, ValueError, TypeError, IndexError, DatasetError) as error:
        raise DatasetError(
            f"The CAM of {name!r} is damaged ({error}). Make its archive again."
        ) from None


class CamReader:
    """Read class maps by image name."""

    def __init__(self, path: Path) -> None:
        self._reader = Reader(path)

    def __getitem__(self, name: str) -> Cam:
        return unpack(self._reader.read(f"{name}.npz"), name)

    def __iter__(self) -> Iterator[str]:
        return (name.removesuffix(".npz") for name in self._reader.names())


def cam_reader(path: Path) -> CamReader:
    """Return the reader of an archive; each process opens it once, and again if it has changed."""
    return _cam_reader(path, path.absolute(), identity(path))


@functools.lru_cache(maxsize=8)
def _cam_reader(path: Path, _place: Path, _identity: tuple[int, ...]) -> CamReader:
    return CamReader(path)
