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

from wsss.cam import NORMALISERS
from wsss.camstore import Cam, grid
from wsss.data.augment import Normalisation
from wsss.data.images import load_image
from wsss.data.index import Entry
from wsss.resize import resize_by
from wsss.runtime import Runtime

HIGH_MULTIPLE = 16  # the stride of IRNet's classifier

SizeRule = Callable[[tuple[int, int]], tuple[int, int]]  # from an image's size to that of its maps


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
    then made, upwards. square_px: scales are of a square of this side; again: to which images are
    brought first.
    """

    kernel: str = "picture"
    floor: bool = False
    multiple: int = 1
    square_px: int | None = None
    again: bool = False

    def size(self, size: tuple[int, int], scale: float) -> tuple[int, int]:
        """Return the size (h, w) of an image at a scale."""
        whole = int if self.floor else round
        base = size if self.square_px is None else (self.square_px, self.square_px)
        height, width = (max(1, whole(side * scale)) for side in base)
        return height + -height % self.multiple, width + -width % self.multiple

    def __call__(
        self, images: Sequence[NDArray[np.uint8]], scale: float, normalise: Normalisation
    ) -> Tensor:
        """Return images (h, w, 3) of one size at a scale, normalised (B, 3, h', w')."""
        size = self.size(images[0].shape[:2], scale)
        on_the_way = [(self.square_px, self.square_px)] if self.square_px and self.again else []
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
            theirs = self.square_px is None and self.multiple == 1
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
        images = [load_image(entry.path) for entry in self.batches[number]]
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
    for entries, scaled in zip(batches, loader, strict=True):
        wanted = [size(entries[0].size) for size in sizes]
        yield entries, multisize(look, scaled, params.mirror, wanted, runtime, joining)


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
    if params.square_px:
        return [lambda _: (params.square_px, params.square_px)]
    return [cam_size(params.stride), *([high_size] if params.high_res else [])]


def joined_cam(
    maps: Sequence[Tensor], labels: Sequence[int], size: tuple[int, int], params: Any
) -> Cam:
    """Return the CAM of an image of `size` (h, w) from its maps (C, h, w) at `cam_sizes(params)`."""
    if params.square_px:
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
