"""Multi-scale inference: images of one size together, each scale with its mirror image."""

from __future__ import annotations

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

from wsss.camstore import Cam, grid
from wsss.data.augment import Normalisation
from wsss.data.images import load_image
from wsss.data.index import Entry
from wsss.runtime import Runtime

EPSILON = 1e-5  # added to the largest score before dividing by it (PSA, IRNet)
HIGH_MULTIPLE = 16  # the stride of IRNet's classifier

SizeRule = Callable[[tuple[int, int]], tuple[int, int]]  # from an image's size to that of its maps


def pad_to_multiple(images: Tensor, cell: int) -> Tensor:
    """Return images (B, C, H, W) with zeros at the right and below, up to multiples of `cell`."""
    height, width = images.shape[2:]
    return F.pad(images, (0, -width % cell, 0, -height % cell))


def plan_batches(entries: Sequence[Entry], batch: int) -> list[list[Entry]]:
    """Return images of equal size in batches; the same for any number of shards."""
    ordered = sorted(entries, key=lambda entry: (entry.size, entry.name))
    groups = (list(group) for _, group in itertools.groupby(ordered, key=lambda entry: entry.size))
    return [group[at : at + batch] for group in groups for at in range(0, len(group), batch)]


def part(batches: Sequence[list[Entry]], shard: tuple[int, int]) -> list[list[Entry]]:
    """Return the batches of shard (k, n), k from 1: every n-th, so that shards take equally long."""
    return list(batches[shard[0] - 1 :: shard[1]])


@dataclass(frozen=True)
class ScaledImages(Dataset[list[Tensor]]):
    """Batches of images, resized on their 8 bits (bicubic) to each scale and normalised."""

    batches: Sequence[list[Entry]]
    scales: Sequence[float]
    normalise: Normalisation

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> list[Tensor]:
        images = [load_image(entry.path) for entry in self.batches[number]]
        return [self._at(images, scale) for scale in self.scales]

    def __iter__(self) -> Iterator[list[Tensor]]:
        return (self[number] for number in range(len(self)))

    def _at(self, images: Sequence[NDArray[np.uint8]], scale: float) -> Tensor:
        height, width = images[0].shape[:2]
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        resized = (
            image
            if scale == 1
            else np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
            for image in images
        )
        return torch.from_numpy(np.stack([self.normalise(image) for image in resized]))


Look = Callable[[Tensor], Tensor]  # images (B, 3, h, w) -> maps (B, C, h', w')


def multiscale(
    look: Look, images: Sequence[Tensor], mirror: bool, size: tuple[int, int], runtime: Runtime
) -> Tensor:
    """Return the sum of what `look` sees at every scale, and mirrored, resized to `size` (h, w).

    images: one tensor (B, 3, h, w) per scale. Returns float32 (B, C, *size) on the device.
    """
    return multisize(look, images, mirror, [size], runtime)[0]


def multisize(
    look: Look,
    images: Sequence[Tensor],
    mirror: bool,
    sizes: Sequence[tuple[int, int]],
    runtime: Runtime,
) -> list[Tensor]:
    """Return what `multiscale` returns for each of `sizes`, looking only once."""
    totals: list[Tensor] = []
    for at_scale in images:
        batch = runtime.send(at_scale)
        both = torch.cat([batch, batch.flip(3)]) if mirror else batch
        with runtime.autocast():
            maps = look(both)
        resized = [_resized(maps.float(), size, mirror) for size in sizes]
        totals = [a + b for a, b in zip(totals, resized, strict=True)] if totals else resized
    if not totals:
        raise ValueError("at least one scale is needed")
    return totals


def _resized(maps: Tensor, size: tuple[int, int], mirror: bool) -> Tensor:
    """Return maps (B, C, h, w) at `size`, those of mirrored images turned back and added."""
    maps = F.interpolate(maps, size, mode="bilinear", align_corners=False)
    if not mirror:
        return maps
    straight, mirrored = maps.chunk(2)
    return straight + mirrored.flip(3)


def inference(
    look: Look,
    batches: Sequence[list[Entry]],
    params: Any,
    size: SizeRule,
    normalise: Normalisation,
    runtime: Runtime,
    workers: int = 0,
) -> Iterator[tuple[list[Entry], Tensor]]:
    """Yield each batch of images with its summed maps (B, C, h, w); the next are read meanwhile.

    params: has scales and mirror. size: from an image's size to that of its maps.
    """
    found = inference_at(look, batches, params, [size], normalise, runtime, workers)
    return ((entries, maps) for entries, (maps,) in found)


def inference_at(
    look: Look,
    batches: Sequence[list[Entry]],
    params: Any,
    sizes: Sequence[SizeRule],
    normalise: Normalisation,
    runtime: Runtime,
    workers: int = 0,
) -> Iterator[tuple[list[Entry], list[Tensor]]]:
    """Do what `inference` does for several sizes of the maps."""
    images = ScaledImages(batches, params.scales, normalise)
    loader: Any = DataLoader(images, batch_size=None, num_workers=workers)
    for entries, scaled in zip(batches, loader, strict=True):
        wanted = [size(entries[0].size) for size in sizes]
        yield entries, multisize(look, scaled, params.mirror, wanted, runtime)


def to_cam(
    maps: Tensor,
    labels: Sequence[int],
    size: tuple[int, int],
    stride: int,
    high: Tensor | None = None,
) -> Cam:
    """Return the maps (C, h, w) of the present classes, each divided by its largest score.

    high: maps of `high_size`, if they are wanted too.
    """
    cut = None if high is None else _present(high[:, : size[0], : size[1]], labels)
    return Cam(np.array(labels, np.int16), _present(maps, labels), size, stride, cut)


def _present(maps: Tensor, labels: Sequence[int]) -> NDArray[np.float16]:
    present = maps[list(labels)]
    present = present / (present.amax((1, 2), keepdim=True) + EPSILON)
    found: NDArray[np.float16] = present.cpu().numpy().astype(np.float16)
    return found


def cam_size(stride: int) -> SizeRule:
    """Return the function from an image's size to its grid at `stride`."""
    return lambda size: grid(size, stride)


def high_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the maps that IRNet cuts to the image: the next multiples of 16 px."""
    rows, columns = grid(size, HIGH_MULTIPLE)
    return rows * HIGH_MULTIPLE, columns * HIGH_MULTIPLE
