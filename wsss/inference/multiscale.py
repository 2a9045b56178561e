"""Multi-scale inference: images of one size together, each scale with its mirror image."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wsss.data.images import load_entry
from wsss.data.index import Entry
from wsss.data.normalisation import Normalisation
from wsss.data.resize import resize_by
from wsss.data.workers import plainly
from wsss.inference.cam_maps import SizeRule
from wsss.machine.runtime import Runtime


def plan_batches(entries: Sequence[Entry], batch: int) -> list[list[Entry]]:
    """Return images of equal size in batches; the same for any number of shards."""
    ordered = sorted(entries, key=lambda entry: (entry.size, entry.name))
    groups = (list(group) for _, group in itertools.groupby(ordered, key=lambda entry: entry.size))
    return [group[at : at + batch] for group in groups for at in range(0, len(group), batch)]


def part(batches: Sequence[list[Entry]], shard: tuple[int, int]) -> list[list[Entry]]:
    """Return the batches of shard (k, n), k from 1: every n-th, so that shards take equally long."""
    return list(batches[shard[0] - 1 :: shard[1]])


@dataclass(frozen=True)
class Resizing:
    """How images are brought to a scale.

    kernel: picture (the 8 bits, smoothed bicubic), or of the normalised image without smoothing:
    bicubic (OpenCV's, by the scale and not by the sizes), bilinear, or bilinear_corners (with aligned
    corners). floor: cut sides to whole pixels instead of rounding them. multiple: of which sides are
    then made, upwards or `down`. square_px: scales are of a square of this side, long_side_px: of the
    image with a long side of this; again: to which images are brought first.
    """

    kernel: str = "picture"
    floor: bool = False
    multiple: int = 1
    square_px: int | None = None
    again: bool = False
    long_side_px: int | None = None
    down: bool = False

    def size(self, size: tuple[int, int], scale: float) -> tuple[int, int]:
        """Return the size (h, w) of an image at a scale."""
        whole = int if self.floor else round
        height, width = (max(1, whole(side * scale)) for side in self.base(size))
        return self._multiple(height), self._multiple(width)

    def base(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size (h, w) that scales are of."""
        if self.square_px:
            return self.square_px, self.square_px
        if not self.long_side_px:
            return size
        height, width = size
        if width < height:
            return self.long_side_px, max(1, round(width / height * self.long_side_px))
        return max(1, round(height / width * self.long_side_px)), self.long_side_px

    def _multiple(self, side: int) -> int:
        if self.down:
            return max(self.multiple, side - side % self.multiple)
        return side + -side % self.multiple

    def __call__(
        self, images: Sequence[NDArray[np.uint8]], scale: float, normalise: Normalisation
    ) -> Tensor:
        """Return images (h, w, 3) of one size at a scale, normalised (B, 3, h', w')."""
        size = self.size(images[0].shape[:2], scale)
        on_the_way = [self.base(images[0].shape[:2])] if self.again else []
        stops = [*on_the_way, size]
        if self.kernel == "picture":
            images = [functools.reduce(_smooth, stops, image) for image in images]
        found = torch.from_numpy(np.stack([normalise(image) for image in images]))
        if self.kernel == "picture":
            return found
        return functools.reduce(lambda seen, stop: self.plain(seen, stop, scale), stops, found)

    def plain(self, images: Tensor, size: tuple[int, int], scale: float) -> Tensor:
        """Return normalised images (B, 3, h, w) at `size`; bicubic, by `scale` if that is theirs."""
        if images.shape[2:] == size:
            return images
        if self.kernel == "bicubic":
            theirs = not (self.square_px or self.long_side_px) and self.multiple == 1
            height, width = (new / old for new, old in zip(size, images.shape[2:], strict=True))
            return resize_by(images, (scale, scale) if theirs else (height, width), size)
        aligned = self.kernel == "bilinear_corners"
        return F.interpolate(images, size, mode="bilinear", align_corners=aligned)


def _smooth(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))


PICTURE = Resizing()


@dataclass(frozen=True)
class ScaledImages(Dataset[list[Tensor]]):
    """Batches of images, resized to each scale and normalised."""

    batches: Sequence[list[Entry]]
    scales: Sequence[float]
    normalise: Normalisation
    resizing: Resizing = PICTURE

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> list[Tensor]:
        images = [load_entry(entry) for entry in self.batches[number]]
        return [self.resizing(images, scale, self.normalise) for scale in self.scales]

    def __iter__(self) -> Iterator[list[Tensor]]:
        return (self[number] for number in range(len(self)))


Look = Callable[[Tensor], Tensor]  # images (B, 3, h, w) -> maps (B, C, h', w')


@dataclass(frozen=True)
class Joining:
    """How what is seen at several scales becomes one.

    softmax: of each look before they are joined. largest: take the maximum instead of the sum.
    align_corners: how maps are resized before. mirror_largest: `largest` for an image and its mirror
    image, where it is another. positive: cut negative scores after the mirror image was joined.
    """

    softmax: bool = False
    largest: bool = False
    align_corners: bool = False
    mirror_largest: bool | None = None
    positive: bool = False

    def seen(self, maps: Tensor, size: tuple[int, int], mirror: bool) -> Tensor:
        """Return maps (B, C, h, w) at `size`, those of mirrored images turned back and joined."""
        maps = F.interpolate(maps, size, mode="bilinear", align_corners=self.align_corners)
        if self.softmax:
            maps = maps.softmax(1)
        if mirror:
            straight, mirrored = maps.chunk(2)
            largest = self.largest if self.mirror_largest is None else self.mirror_largest
            maps = _joined(straight, mirrored.flip(3), largest)
        return F.relu(maps) if self.positive else maps

    def join(self, first: Tensor, second: Tensor) -> Tensor:
        """Return what is seen at two scales as one."""
        return _joined(first, second, self.largest)


def _joined(first: Tensor, second: Tensor, largest: bool) -> Tensor:
    return torch.maximum(first, second) if largest else first + second


SUM = Joining()


def multiscale(
    look: Look,
    images: Sequence[Tensor],
    mirror: bool,
    size: tuple[int, int],
    runtime: Runtime,
    joining: Joining = SUM,
) -> Tensor:
    """Return the sum of what `look` sees at every scale, and mirrored, resized to `size` (h, w).

    images: one tensor (B, 3, h, w) per scale. joining: what to do instead of summing. Returns float32
    (B, C, *size) on the device.
    """
    return multisize(look, images, mirror, [size], runtime, joining)[0]


def multisize(
    look: Look,
    images: Sequence[Tensor],
    mirror: bool,
    sizes: Sequence[tuple[int, int]],
    runtime: Runtime,
    joining: Joining = SUM,
) -> list[Tensor]:
    """Return what `multiscale` returns for each of `sizes`, looking only once."""
    totals: list[Tensor] = []
    for at_scale in images:
        batch = runtime.send(at_scale)
        both = torch.cat([batch, batch.flip(3)]) if mirror else batch
        with runtime.autocast():
            maps = look(both)
        resized = [joining.seen(maps.float(), size, mirror) for size in sizes]
        totals = list(map(joining.join, totals, resized)) if totals else resized
    if not totals:
        raise ValueError("at least one scale is needed")
    return totals


def inference(
    look: Look,
    batches: Sequence[list[Entry]],
    params: Any,
    size: SizeRule,
    normalise: Normalisation,
    runtime: Runtime,
    workers: int = 0,
    resizing: Resizing = PICTURE,
    joining: Joining = SUM,
) -> Iterator[tuple[list[Entry], Tensor]]:
    """Yield each batch of images with its summed maps (B, C, h, w); the next are read meanwhile.

    params: has scales and mirror. size: from an image's size to that of its maps.
    """
    found = inference_at(
        look, batches, params, [size], normalise, runtime, workers, resizing, joining
    )
    return ((entries, maps) for entries, (maps,) in found)


def inference_at(
    look: Look,
    batches: Sequence[list[Entry]],
    params: Any,
    sizes: Sequence[SizeRule],
    normalise: Normalisation,
    runtime: Runtime,
    workers: int = 0,
    resizing: Resizing = PICTURE,
    joining: Joining = SUM,
) -> Iterator[tuple[list[Entry], list[Tensor]]]:
    """Do what `inference` does for several sizes of the maps."""
    images = ScaledImages(batches, params.scales, normalise, resizing)
    loader: Any = DataLoader(images, batch_size=None, num_workers=workers)
    for entries, scaled in zip(batches, plainly(loader), strict=True):
        wanted = [size(entries[0].size) for size in sizes]
        yield entries, multisize(look, scaled, params.mirror, wanted, runtime, joining)
