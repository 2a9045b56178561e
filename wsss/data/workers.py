"""From worker processes to the device: errors of workers, and batches moved to the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from torch import Tensor

from wsss.errors import WsssError
from wsss.machine.runtime import Runtime

Item = TypeVar("Item")


# image (B, 3, h, w), label (B, classes), name, number (B,) in the list of images, content (B, 4): top, left, bottom, right of what of a
# crop is image and not filled up; mask (B, h, w), whole and local (as image) where they are asked for
Batch = dict[str, Any]


def plainly(loader: Iterable[Item]) -> Iterator[Item]:
    """Yield what a loader does; an error of ours comes without the traceback of its worker."""
    try:
        yield from loader
    except WsssError as error:
        message = str(error).splitlines()[-1].removeprefix(f"{type(error).__module__}.")
        raise type(error)(message.removeprefix(f"{type(error).__name__}: ")) from None


def to_device(batch: Batch, runtime: Runtime) -> Batch:
    """Move the tensors of a batch; names stay."""
    moved = {
        key: value.to(runtime.device, non_blocking=True) if isinstance(value, Tensor) else value
        for key, value in batch.items()
    }
    return {**moved, "image": runtime.send(batch["image"])}
