"""Batches of training images whose content depends on the seed alone, not on who loads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wsss.data.images import load_entry
from wsss.data.index import Entry, Index
from wsss.data.labelmap import misfits
from wsss.data.normalisation import Normalisation
from wsss.data.resize import squash
from wsss.data.workers import Batch, plainly
from wsss.errors import DatasetError
from wsss.randomness import rng
from wsss.settings import AugmentParams
from wsss.training.augment import augment, content
from wsss.training.strong_views import views

Mask = Callable[[Entry], NDArray[np.uint8]]


@dataclass(frozen=True)
class TrainingImages(Dataset[dict[str, Any]]):
    """Augmented images by (epoch, number): the same pair gives the same tensor, always.

    mask: reads the labels of an image (H, W), where a network is trained on pixels.
    """

    index: Index
    entries: Sequence[Entry]
    params: AugmentParams
    normalise: Normalisation
    seed: int
    mask: Mask | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, number = key
        entry = self.entries[number]
        generator = rng(self.seed, "augment", epoch, entry.name)
        labels = self.mask(entry) if self.mask else None
        picture = load_entry(entry)
        if labels is not None:
            self._check(entry, labels)
        image, cut, draws = augment(picture, labels, self.params, self.normalise, generator)
        present = label_vector(self.index, entry)
        item = {"image": torch.from_numpy(image), "label": present, "name": entry.name}
        item["number"] = number
        item["content"] = torch.tensor(content(draws, self.params))
        if self.params.strong_views:
            chance = rng(self.seed, "views", epoch, entry.name)
            found = views(picture, draws, self.params, self.normalise, chance)
            item |= {name: torch.from_numpy(view) for name, view in found.items()}
        if cut is not None:
            item["mask"] = torch.from_numpy(cut).long()
        return item

    def _check(self, entry: Entry, labels: NDArray[np.uint8]) -> None:
        """Stop where labels are not those of this image."""
        name = f"of {entry.path}"
        problem = next(misfits(labels, entry.size, len(self.index.classes), name), None)
        if problem:
            raise DatasetError(problem)


def label_vector(index: Index, entry: Entry) -> Tensor:
    """Return the labels of an image as 0 and 1 (classes,)."""
    present = torch.zeros(len(index.classes))
    present[index.numbers(entry.labels)] = 1.0
    return present


@dataclass(frozen=True)
class Squares:
    """Whole images, squashed to squares: what a method looks at between epochs or trainings."""

    index: Index
    entries: Sequence[Entry]
    normalise: Normalisation
    seed: int

    def batches(self, side: int, batch: int, epoch: int) -> Iterator[Batch]:
        """Yield all images once, in an order that depends on the epoch, `batch` at a time (PCSS)."""
        order = rng(self.seed, "squares", epoch).permutation(len(self.entries))
        return self._batches(order.tolist(), side, batch, Image.Resampling.BILINEAR)

    def in_order(self, side: int, batch: int) -> Iterator[Batch]:
        """Yield all images once, as they are listed, `batch` at a time (PCSformer)."""
        order = range(len(self.entries))
        return self._batches(order, side, batch, Image.Resampling.BICUBIC)

    def _batches(
        self, order: Sequence[int], side: int, batch: int, kernel: Image.Resampling
    ) -> Iterator[Batch]:
        for start in range(0, len(order), batch):
            chosen = [self.entries[number] for number in order[start : start + batch]]
            yield {
                "image": torch.stack([self._image(entry, side, kernel) for entry in chosen]),
                "label": torch.stack([label_vector(self.index, entry) for entry in chosen]),
                "name": [entry.name for entry in chosen],
            }

    def _image(self, entry: Entry, side: int, kernel: Image.Resampling) -> Tensor:
        return torch.from_numpy(squash(load_entry(entry), side, self.normalise, kernel))


@dataclass(frozen=True)
class Schedule:
    """Which images each part of each step works on; part of the seed, so resuming is exact.

    A batch is cut into `accumulate` parts and each of these among the processes. limit: the number
    of steps, instead of the epochs. keep: the last images of an epoch are a batch, if a smaller one.
    """

    images: int
    batch: int
    epochs: int
    accumulate: int
    seed: int
    rank: int = 0
    world: int = 1
    limit: int | None = None
    keep: bool = False

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch; the last incomplete batch is dropped or kept."""
        return max(1, (self.images + (self.batch - 1 if self.keep else 0)) // self.batch)

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.limit or self.steps_per_epoch * self.epochs

    def parts(self, start: int) -> Iterator[list[tuple[int, int]]]:
        """Yield the (epoch, number) of each part's images from step `start` on."""
        for step in range(start, self.steps):
            epoch, place = divmod(step, self.steps_per_epoch)
            order = rng(self.seed, "order", epoch).permutation(self.images)
            chosen = np.arange(place * self.batch, (place + 1) * self.batch)
            chosen = order[chosen[chosen < self.images] if self.keep else chosen % self.images]
            for part in np.array_split(chosen, self.accumulate):
                yield [(epoch, int(number)) for number in part[self.rank :: self.world]]


def batches(
    images: TrainingImages, schedule: Schedule, start: int, workers: int
) -> Iterator[Batch]:
    """Yield the parts of all steps from `start` on, loaded ahead by `workers` processes."""
    if start >= schedule.steps:
        return
    loader = DataLoader(
        images,
        batch_sampler=list(schedule.parts(start)),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else the first batch would draw from the losses' numbers
    )
    yield from plainly(loader)
