"""Multi-scale inference: images of one size together, every view of them in turn."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wsss.data.images import load_entry
from wsss.data.index import Entry
from wsss.data.normalisation import Normalisation
from wsss.data.workers import with_short_errors
from wsss.inference.views import TestTimeAugmentation
from wsss.machine.runtime import Runtime

Forward = Callable[[Tensor], Tensor]  # images (B, 3, h, w) -> maps (B, C, h', w')


def plan_batches(entries: Sequence[Entry], batch: int) -> list[list[Entry]]:
    """Return batches of up to `batch` images of equal size; they do not depend on the shards."""
    ordered = sorted(entries, key=lambda entry: (entry.size, entry.name))
    groups = (list(group) for _, group in itertools.groupby(ordered, key=lambda entry: entry.size))
    return [group[at : at + batch] for group in groups for at in range(0, len(group), batch)]


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


def multiscale(
    forward: Forward,
    views: Sequence[Tensor],
    augmentation: TestTimeAugmentation,
    size: tuple[int, int],
    runtime: Runtime,
) -> list[Tensor]:
    """Return the merged maps of all views, a tensor (B, C, h, w) for each of the `map_sizes`.

    views: images of one size, a normalised tensor (B, 3, h, w) for each scale; mirrored views are
    added here. size: (height, width) of the images before resizing. Maps are float32, on the device.
    """
    map_sizes = [rule(size) for rule in augmentation.map_sizes]
    mirror, merging = augmentation.mirror, augmentation.merging
    merged: list[Tensor] = []
    for view in views:
        batch = runtime.send(view)
        batch = torch.cat([batch, batch.flip(3)]) if mirror else batch
        with runtime.autocast():
            maps = forward(batch)
        resized = [merging.merge_mirrored(maps.float(), size, mirror) for size in map_sizes]
        merged = list(map(merging.merge_scales, merged, resized)) if merged else resized
    if not merged:
        raise ValueError("at least one scale is needed")
    return merged


def inference(
    forward: Forward,
    batches: Sequence[list[Entry]],
    augmentation: TestTimeAugmentation,
    normalise: Normalisation,
    runtime: Runtime,
    workers: int = 0,
) -> Iterator[tuple[list[Entry], list[Tensor]]]:
    """Yield each batch of images with the maps that `multiscale` returns for it.

    workers: processes that read the next batches meanwhile.
    """
    images = ImageViews(batches, normalise, augmentation)
    loader: DataLoader[list[Tensor]] = DataLoader(images, batch_size=None, num_workers=workers)
    for entries, views in zip(batches, with_short_errors(loader), strict=True):
        yield entries, multiscale(forward, views, augmentation, entries[0].size, runtime)
