"""Batches of training images; their content depends on the seed alone, not on the number of workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wsss.data.images import load_entry
from wsss.data.index import Entry, Index
from wsss.data.labelmap import misfits
from wsss.data.normalisation import Array, Normalisation
from wsss.data.pixels import normalised
from wsss.data.resize import in_boxes, squash
from wsss.data.workers import Batch, label_vector, with_short_errors
from wsss.errors import DatasetError
from wsss.randomness import rng
from wsss.settings import AugmentParams
from wsss.training.augment import Draws, change, changed_pixels, content, draw, in_8_bits
from wsss.training.strong_views import strong_pictures, views

KEPT_BYTES = 2**28  # training images that fit, decoded, are decoded once by each loading process
MaskReader = Callable[[Entry], NDArray[np.uint8]]  # reads the labels (H, W) of an image
Decoded = tuple[NDArray[np.uint8], NDArray[np.uint8] | None]  # an image and its labels


class Example(TypedDict):
    """One augmented training image; the loader stacks examples to a `Batch`.

    image, whole, local: 8 bits (h, w, 3), or normalised (3, h, w) if 8 bits do not suffice.
    label: (classes,) of 0 and 1. content: (4,), mask: (h, w).
    """

    image: Tensor
    label: Tensor
    name: str
    number: int
    content: Tensor
    mask: NotRequired[Tensor]
    whole: NotRequired[Tensor]
    local: NotRequired[Tensor]


@dataclass(frozen=True)
class TrainingImages(Dataset[Example]):
    """Augmented images by (epoch, number): the same pair always gives the same tensors.

    They leave the loader with 8 bits if these suffice; `normalised` completes batches on the device.
    masks: reads the labels of the pixels, where a network is trained on them. kept_bytes: decoded
    images and labels stay in memory if all of them need no more.
    """

    index: Index
    entries: Sequence[Entry]
    params: AugmentParams
    normalise: Normalisation
    seed: int
    masks: MaskReader | None = None
    kept_bytes: int = KEPT_BYTES
    _decoded: dict[int, Decoded] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, key: tuple[int, int]) -> Example:
        epoch, number = key
        entry = self.entries[number]
        generator = rng(self.seed, "augment", epoch, entry.name)
        picture, labels = self._read(number)
        draws = draw(picture.shape[:2], self.params, generator)
        chance = rng(self.seed, "views", epoch, entry.name)
        pictures, mask = self._pictures(picture, labels, draws, chance)
        example: Example = {
            "image": torch.from_numpy(pictures["image"]),
            "label": label_vector(self.index, entry),
            "name": entry.name,
            "number": number,
            "content": torch.tensor(content(draws, self.params)),
        }
        for name in self.params.strong_views:
            example[name] = torch.from_numpy(pictures[name])
        if mask is not None:
            example["mask"] = torch.from_numpy(mask).long()
        return example

    def normalised(self, batch: Batch) -> Batch:
        """Return a batch whose images of 8 bits are normalised, on the device where they lie.

        The values are those that the loader would compute, bit by bit on a processor.
        """
        if batch["image"].dtype != torch.uint8:
            return batch
        image = normalised(batch["image"], self.normalise)
        if self.params.image_fill == "mean" and "image" not in self.params.strong_views:
            inside = in_boxes(batch["content"], (image.shape[2], image.shape[3]))
            image.masked_fill_(~inside[:, None], 0.0)
        complete: Batch = {**batch, "image": image}
        for name in self.params.strong_views:
            if name != "image":
                complete[name] = normalised(batch[name], self.normalise).contiguous()
        return complete

    def _read(self, number: int) -> Decoded:
        """Return an image and its labels; those of a small dataset stay in memory."""
        if number in self._decoded:
            return self._decoded[number]
        entry = self.entries[number]
        labels = self.masks(entry) if self.masks else None
        picture = load_entry(entry)
        if labels is not None:
            self._check(entry, labels)
        if self._all_fit:
            self._decoded[number] = picture, labels
        return picture, labels

    @cached_property
    def _all_fit(self) -> bool:
        channels = 3 + (self.masks is not None)
        return channels * sum(prod(entry.size) for entry in self.entries) <= self.kept_bytes

    def _pictures(
        self,
        image: NDArray[np.uint8],
        labels: NDArray[np.uint8] | None,
        draws: Draws,
        chance: np.random.Generator,
    ) -> tuple[dict[str, Array], NDArray[np.uint8] | None]:
        """Return the crop and the strong views of an image by name, and the crop of its labels."""
        strong: Mapping[str, Array] = {}
        if in_8_bits(self.params):
            crop, mask = changed_pixels(image, labels, draws, self.params)
            if self.params.strong_views:
                strong = strong_pictures(image, crop, self.params, chance)
        else:
            crop, mask = change(image, labels, draws, self.params, self.normalise)
            if self.params.strong_views:
                strong = views(image, draws, self.params, self.normalise, chance)
        return {"image": crop, **strong}, mask

    def _check(self, entry: Entry, labels: NDArray[np.uint8]) -> None:
        """Stop if labels do not fit this image."""
        name = f"of {entry.path}"
        problem = next(misfits(labels, entry.size, len(self.index.classes), name), None)
        if problem:
            raise DatasetError(problem)


@dataclass(frozen=True)
class Squares:
    """Whole images resized to squares, for the methods' work between epochs or trainings."""

    index: Index
    entries: Sequence[Entry]
    normalise: Normalisation
    seed: int

    def batches(self, side: int, batch: int, epoch: int) -> Iterator[Batch]:
        """Yield all images once, `batch` at a time, in a random order of the epoch (PCSS)."""
        order = rng(self.seed, "squares", epoch).permutation(len(self.entries))
        return self._batches(order.tolist(), side, batch, Image.Resampling.BILINEAR)

    def in_order(self, side: int, batch: int) -> Iterator[Batch]:
        """Yield all images once, `batch` at a time, in the order of the entries (PCSformer)."""
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
    """The images of each part of each step; they depend on the seed alone, so resuming is exact.

    images: number of training images. accumulate: parts of a batch; each part is divided among the
    processes. rank, world: number of this process and of all. limit: number of steps, instead of the
    epochs. keep: the last images of an epoch are a smaller batch instead of being dropped.
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
        """The number of optimiser steps in an epoch."""
        return max(1, (self.images + (self.batch - 1 if self.keep else 0)) // self.batch)

    @property
    def steps(self) -> int:
        """The number of optimiser steps of the training."""
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
        generator=torch.Generator(),  # else the first batch would use torch's generator of the losses
    )
    yield from with_short_errors(loader)
