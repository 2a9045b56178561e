"""Batches of training images: their type, loading errors in one line, the way to the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NotRequired, TypedDict, TypeVar, cast

import torch
from torch import Tensor

from wsss.data.index import Entry, Index
from wsss.errors import WsssError
from wsss.machine.runtime import Runtime

Item = TypeVar("Item")


class Batch(TypedDict):
    """A batch of B training images.

    image: normalised crops (B, 3, h, w); the loader of a training gives 8 bits (B, h, w, 3), which
    `TrainingImages.normalised` turns into these. label: (B, classes) of 0 and 1, background excluded.
    name: names of the images. number: (B,), the place of each image among the training images.
    content: (B, 4), box (top, left, bottom, right) of the crop that is image, not padding, in pixels.
    mask: labels of pixels (B, h, w), where a network is trained on them. whole, local: strong views
    (B, 3, h, w), if `augment.strong_views` names them.
    """

    image: Tensor
    label: Tensor
    name: list[str]
    number: NotRequired[Tensor]
    content: NotRequired[Tensor]
    mask: NotRequired[Tensor]
    whole: NotRequired[Tensor]
    local: NotRequired[Tensor]


def label_vector(index: Index, entry: Entry) -> Tensor:
    """Return the labels of an image as 0 and 1 (classes,)."""
    present = torch.zeros(len(index.classes))
    present[index.numbers(entry.labels)] = 1.0
    return present


def with_short_errors(loader: Iterable[Item]) -> Iterator[Item]:
    """Yield from a data loader; a `WsssError` of a worker process comes without its traceback."""
    try:
        yield from loader
    except WsssError as error:
        message = str(error).splitlines()[-1].removeprefix(f"{type(error).__module__}.")
        raise type(error)(message.removeprefix(f"{type(error).__name__}: ")) from None


def to_device(batch: Batch, runtime: Runtime) -> Batch:
    """Return a batch with its tensors on the device."""
    moved = {
        key: value.to(runtime.device, non_blocking=True) if isinstance(value, Tensor) else value
        for key, value in batch.items()
    }
    if batch["image"].is_floating_point():
        moved["image"] = runtime.send(batch["image"])
    return cast("Batch", moved)
