"""Batches of training images whose content depends on the seed alone, not on who loads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wsss.data.augment import Normalisation, box, change, draw
from wsss.data.images import load_image
from wsss.data.index import Entry, Index
from wsss.data.views import views
from wsss.randomness import rng
from wsss.runtime import Runtime
from wsss.schema import AugmentParams

Mask = Callable[[Entry], NDArray[np.uint8]]
# image (B, 3, h, w), label (B, classes), box (B, 4), name; mask (B, h, w), whole and local (as image)
# where they are asked for
Batch = dict[str, Any]


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
        picture = load_image(entry.path)
        draws = draw(picture.shape[:2], self.params, generator)
        image, cut = change(picture, labels, draws, self.params, self.normalise)
        present = torch.zeros(len(self.index.classes))
        present[self.index.numbers(entry.labels)] = 1.0
        item = {"image": torch.from_numpy(image), "label": present, "name": entry.name}
        item["box"] = torch.tensor(box(draws, self.params))
        if self.params.strong:
            chance = rng(self.seed, "views", epoch, entry.name)
            found = views(picture, draws, self.params, self.normalise, chance)
            item |= {name: torch.from_numpy(view) for name, view in found.items()}
        if cut is not None:
            item["mask"] = torch.from_numpy(cut).long()
        return item


@dataclass(frozen=True)
class Schedule:
    """Which images each part of each step works on; part of the seed, so resuming is exact.

    A batch is cut into `accumulate` parts and each of these among the processes. limit: the number
    of steps, instead of the epochs.
    """

    images: int
    batch: int
    epochs: int
    accumulate: int
    seed: int
    rank: int = 0
    world: int = 1
    limit: int | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch; the last incomplete batch is dropped."""
        return max(1, self.images // self.batch)

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.limit or self.steps_per_epoch * self.epochs

    def parts(self, start: int) -> Iterator[list[tuple[int, int]]]:
        """Yield the (epoch, number) of each part's images from step `start` on."""
        for step in range(start, self.steps):
            epoch, place = divmod(step, self.steps_per_epoch)
            order = rng(self.seed, "order", epoch).permutation(self.images)
            chosen = order[np.arange(place * self.batch, (place + 1) * self.batch) % self.images]
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
    yield from loader


def to_device(batch: Batch, runtime: Runtime) -> Batch:
    """Move the tensors of a batch; names stay."""
    moved = {
        key: value.to(runtime.device, non_blocking=True) if isinstance(value, Tensor) else value
        for key, value in batch.items()
    }
    return {**moved, "image": runtime.send(batch["image"])}
