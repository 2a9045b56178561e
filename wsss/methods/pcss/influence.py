"""The influence of frequency blocks on the classes of a classifier (FIM of PCSS)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from wsss.data.workers import Batch
from wsss.methods.pcss.spectrum import block_keep, block_sets, damped, enlarged, influence_map

# From images (B, 3, s, s) to the loss that each class would have if it were present (B, C).
Losses = Callable[[Tensor], Tensor]


class Influence(nn.Module):
    """The measurements so far, which are part of a network's state.

    losses: the latest losses of each class without each block (C, n, n). record: the largest
    interpolated loss of each class (C,). epoch: number of finished epochs. side: of images, in pixels.
    """

    losses: Tensor
    record: Tensor
    epoch: Tensor

    def __init__(self, classes: int, count: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.register_buffer("losses", torch.zeros(classes, count, count))
        self.register_buffer("record", torch.zeros(classes))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))

    def mask(self) -> Tensor:
        """Return the influence of each frequency on each class, in [0, 1] (C, side, side)."""
        return influence_map(self.losses, self.record, self.side)

    def update(self, losses: Tensor) -> None:
        """Store the losses of a measurement (C, n, n); classes without a loss keep their earlier ones."""
        largest = enlarged(losses, self.side).amax((1, 2))
        measured = largest > 0
        self.record[measured] = torch.maximum(self.record, largest)[measured]
        self.losses[measured] = losses[measured]


@torch.no_grad()
def measure(
    losses_of: Losses, batches: Iterable[Batch], need: Tensor, count: int, at_once: int
) -> Tensor:
    """Return the summed losses of each class without each block of frequencies (C, count, count).

    batches: image (B, 3, s, s) and label (B, C). need: number of images still needed of each class
    (C,), which this function lowers; no batch is read once it is 0. at_once: images in one forward
    pass.
    """
    total = torch.zeros(len(need), count, count, device=need.device)
    for batch in batches:
        chosen = needed(batch["label"], need)
        rows = chosen.any(1)
        if rows.any():
            total += without_blocks(losses_of, batch["image"][rows], chosen[rows], count, at_once)
            need -= chosen.sum(0)
        if not need.any():
            break
    return total


def needed(labels: Tensor, need: Tensor) -> Tensor:
    """Return a mask (B, C) of the first images of each class that are still needed."""
    present = labels > 0
    return present & (present.cumsum(0) <= need)


def without_blocks(
    losses_of: Losses, images: Tensor, chosen: Tensor, count: int, at_once: int
) -> Tensor:
    """Return the losses of classes, summed over their images, without each block (C, count, count).

    images: (B, 3, s, s). chosen: mask of the images that count for each class (B, C).
    """
    side, sets = images.shape[-1], block_sets(count)
    spectra = torch.fft.rfft2(images.float())
    total = torch.zeros(chosen.shape[1], count, count, device=images.device)
    group = max(1, at_once // len(images))
    for start in range(0, len(sets), group):
        some = sets[start : start + group]
        keep = torch.stack([block_keep(blocks, count, side) for blocks in some]).to(images.device)
        changed = damped(spectra, keep[:, None, None], side).flatten(0, 1)
        losses = losses_of(changed).float().reshape(len(some), *chosen.shape)
        for blocks, summed in zip(some, (losses * chosen).sum(1), strict=True):
            for row, column in blocks:
                total[:, row, column] = summed
    return total
