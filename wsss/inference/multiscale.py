"""Multi-scale inference: images of one size together, every view of them in turn.

Images leave the loader once, with 8 bits, and one by one; batches, views and their normalisation are
made on the device.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wsss.data.images import load_entry
from wsss.data.index import Entry
from wsss.data.normalisation import Normalisation
from wsss.data.workers import with_short_errors
from wsss.errors import DeviceMemoryError
from wsss.inference.views import TestTimeAugmentation
from wsss.machine.runtime import Runtime, release_memory
from wsss.progress import log

Forward = Callable[[Tensor], Tensor]  # images (B, 3, h, w) -> maps (B, C, h', w')
Size = tuple[int, int]  # height, width
Item = TypeVar("Item")
ONE_VIEW = TestTimeAugmentation()


@dataclass(frozen=True)
class LabelledForward:
    """A forward pass that depends on the labels of its images; of: from images to their forward pass."""

    of: Callable[[Sequence[Entry]], Forward]


def plan_batches(
    entries: Sequence[Entry],
    batch: int,
    augmentation: TestTimeAugmentation = ONE_VIEW,
    megapixels: float = math.inf,
) -> list[list[Entry]]:
    """Return batches of images of equal size; they do not depend on the shards.

    A batch has up to `batch` images, and its largest forward pass up to `megapixels` million pixels,
    unless one image alone has more.
    """
    ordered = sorted(entries, key=lambda entry: (entry.size, entry.name))
    batches: list[list[Entry]] = []
    for size, group in itertools.groupby(ordered, key=lambda entry: entry.size):
        images = list(group)
        count = int(min(batch, 1e6 * megapixels / augmentation.pixels(size)))
        batches += _cut(images, max(1, count))
    return batches


def _cut(items: Sequence[Item], count: int) -> list[list[Item]]:
    """Return items in lists of up to `count`."""
    return [list(items[start : start + count]) for start in range(0, len(items), count)]


def shard_batches(batches: Sequence[list[Entry]], shard: tuple[int, int]) -> list[list[Entry]]:
    """Return every n-th batch for shard (k, n), k from 1, so that all shards take equally long."""
    return list(batches[shard[0] - 1 :: shard[1]])


@dataclass(frozen=True)
class ImageViews(Dataset[list[Tensor]]):
    """The views of batches of images of one size, as `TestTimeAugmentation.views` returns them."""

    batches: Sequence[list[Entry]]
    normalise: Normalisation
    augmentation: TestTimeAugmentation = TestTimeAugmentation()

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> list[Tensor]:
        images = [load_entry(entry) for entry in self.batches[number]]
        return self.augmentation.views(images, self.normalise)

    def __iter__(self) -> Iterator[list[Tensor]]:
        return (self[number] for number in range(len(self)))


@dataclass(frozen=True)
class Pictures(Dataset[list[Tensor]]):
    """The 8-bit pictures (h, w, 3) of each image that `TestTimeAugmentation.pictures` returns."""

    entries: Sequence[Entry]
    augmentation: TestTimeAugmentation

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, number: int) -> list[Tensor]:
        image = load_entry(self.entries[number])
        return [torch.from_numpy(picture) for picture in self.augmentation.pictures(image)]


class Halving:
    """Inference that goes on with smaller batches where the memory of a GPU is exhausted."""

    def __init__(self) -> None:
        self._limit = math.inf  # largest number of pixels of the images of a batch

    def __call__(
        self, maps: Callable[[Sequence[Item]], list[Tensor]], images: Sequence[Item], size: Size
    ) -> list[Tensor]:
        """Return `maps(images)`, computed in parts if the memory does not suffice for all images.

        maps: returns tensors with a row for each image. size: (h, w) of the images.

        Raises:
            DeviceMemoryError: the memory does not suffice for one image.
        """
        pixels = size[0] * size[1]
        while True:
            count = int(max(1, min(len(images), self._limit // pixels)))
            parts = _unless_out_of_memory(maps, _cut(images, count))
            if parts is not None:
                return (
                    parts[0] if len(parts) == 1 else list(map(torch.cat, zip(*parts, strict=True)))
                )
            if count == 1:
                raise DeviceMemoryError(
                    f"The GPU has too little free memory for one image of {size[1]} x {size[0]} px. End "
                    "other programs on it, lower the largest of the scales, or make large images smaller."
                )
            release_memory()
            self._limit = count // 2 * pixels
            log.info("the GPU's memory is exhausted: going on with %d images at a time", count // 2)


def _unless_out_of_memory(
    maps: Callable[[Sequence[Item]], list[Tensor]], parts: Sequence[Sequence[Item]]
) -> list[list[Tensor]] | None:
    """Return `maps` of each part, or None if the memory of the GPU was exhausted.

    The tensors of the failed pass are free only outside of this function.
    """
    try:
        return [maps(part) for part in parts]
    except torch.OutOfMemoryError:
        return None


def multiscale(
    forward: Forward,
    views: Iterable[Tensor],
    augmentation: TestTimeAugmentation,
    size: Size,
    runtime: Runtime,
) -> list[Tensor]:
    """Return the merged maps of all views, a tensor (B, C, h, w) for each of the `map_sizes`.

    views: images of one size, a normalised tensor (B, 3, h, w) for each scale; mirrored views are
    added here. size: (height, width) of the images before resizing. Maps are float32, on the device.
    """
    map_sizes = [rule(size) for rule in augmentation.map_sizes]
    merging = augmentation.merging
    merged: list[Tensor] = []
    for number, view in enumerate(views):
        batch = runtime.send(view)
        batch = torch.cat([batch, batch.flip(3)]) if augmentation.mirrors(number) else batch
        with runtime.autocast():
            maps = forward(batch)
        resized = [augmentation.merged_view(maps.float(), size, number) for size in map_sizes]
        merged = list(map(merging.merge_scales, merged, resized)) if merged else resized
    if not merged:
        raise ValueError("at least one scale is needed")
    if augmentation.enlarged is None:
        return merged
    return [F.interpolate(maps, augmentation.enlarged(size), mode="bilinear") for maps in merged]


def inference(
    forward: Forward | LabelledForward,
    batches: Sequence[list[Entry]],
    augmentation: TestTimeAugmentation,
    normalise: Normalisation,
    runtime: Runtime,
    workers: int = 0,
) -> Iterator[tuple[list[Entry], list[Tensor]]]:
    """Yield each batch of images with the maps that `multiscale` returns for it.

    workers: processes that read the next images meanwhile, until the last batch.

    Raises:
        DeviceMemoryError: the memory of the device does not suffice for one image.
    """
    loaded = _loaded(batches, augmentation, runtime, workers)
    halving = Halving()

    def maps(images: Sequence[tuple[Entry, list[Tensor]]]) -> list[Tensor]:
        entries, pictures = zip(*images, strict=True)
        passing = forward.of(entries) if isinstance(forward, LabelledForward) else forward
        return picture_maps(passing, pictures, augmentation, normalise, entries[0].size, runtime)

    for entries in batches:
        pictures = itertools.islice(loaded, len(entries))
        yield entries, halving(maps, list(zip(entries, pictures, strict=True)), entries[0].size)


def picture_maps(
    forward: Forward,
    pictures: Sequence[list[Tensor]],
    augmentation: TestTimeAugmentation,
    normalise: Normalisation,
    size: Size,
    runtime: Runtime,
) -> list[Tensor]:
    """Return what `multiscale` returns for images in memory.

    pictures: of each image, the 8-bit pictures (h, w, 3) of `TestTimeAugmentation.pictures`. size:
    (h, w) of the images.
    """
    pixels = [runtime.stack(scale) for scale in zip(*pictures, strict=True)]
    views = augmentation.views_on_device(pixels, normalise)
    return multiscale(forward, views, augmentation, size, runtime)


def _loaded(
    batches: Sequence[list[Entry]],
    augmentation: TestTimeAugmentation,
    runtime: Runtime,
    workers: int,
) -> Iterator[list[Tensor]]:
    """Yield the pictures of the images of all batches; two batches are loaded ahead."""
    entries = list(itertools.chain.from_iterable(batches))
    ahead = math.ceil(2 * max(map(len, batches), default=1) / max(1, workers))
    loader: DataLoader[list[Tensor]] = DataLoader(
        Pictures(entries, augmentation),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=max(2, ahead) if workers else None,
        pin_memory=runtime.device.type == "cuda",
    )
    return with_short_errors(loader)
