"""How much the classes of a classifier depend on blocks of frequencies (PCSS's FIM)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from wsss.data.workers import Batch
from wsss.methods.pcss.spectrum import block_keep, block_sets, damped, enlarged, influence_map

Losses = Callable[[Tensor], Tensor]  # images (B, 3, s, s) -> loss of each class, if present (B, C)


class Influence(nn.Module):
    """What was measured so far; part of a network's state.

    losses: of each class without each block, when it was last measured (C, n, n). record: the largest
    interpolated loss of each class (C,). epoch: how many are done. side: of the images, in pixels.
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
        """Take over the losses of a round (C, n, n); classes without any keep their earlier ones."""
        largest = enlarged(losses, self.side).amax((1, 2))
        measured = largest > 0
        self.record[measured] = torch.maximum(self.record, largest)[measured]
        self.losses[measured] = losses[measured]


@torch.no_grad()
def measure(
    losses_of: Losses, batches: Iterable[Batch], need: Tensor, count: int, at_once: int
) -> Tensor:
    """Return the summed losses of each class without each block of frequencies (C, count, count).

    batches: image (B, 3, s, s) and label (B, C). need: images wanted of each class (C,), lowered as
    they come; no batch is read once it is 0. at_once: images in one look.
    """
    total = torch.zeros(len(need), count, count, device=need.device)
    for batch in batches:
        chosen = wanted(batch["label"], need)
        rows = chosen.any(1)
        if rows.any():
            total += without_blocks(losses_of, batch["image"][rows], chosen[rows], count, at_once)
            need -= chosen.sum(0)
        if not need.any():
            break
    return total


def wanted(labels: Tensor, need: Tensor) -> Tensor:
    """Return which images count for which class (B, C): the first of the batch that are needed."""
    present = labels > 0
    found: Tensor = present & (present.cumsum(0) <= need)
    return found


def without_blocks(
    losses_of: Losses, images: Tensor, chosen: Tensor, count: int, at_once: int
) -> Tensor:
    """Return the losses of classes, summed over their images, without each block (C, count, count).

    chosen: which images (B, 3, s, s) count for which class (B, C).
    """
    side, sets = images.shape[-1], block_sets(count)
    spectra = torch.fft.rfft2(images.float())
    found = torch.zeros(chosen.shape[1], count, count, device=images.device)
    group = max(1, at_once // len(images))
    for start in range(0, len(sets), group):
        some = sets[start : start + group]
        keep = torch.stack([block_keep(blocks, count, side) for blocks in some]).to(images.device)
        changed = damped(spectra, keep[:, None, None], side).flatten(0, 1)
        losses = losses_of(changed).float().reshape(len(some), *chosen.shape)
        for blocks, summed in zip(some, (losses * chosen).sum(1), strict=True):
            for row, column in blocks:
                found[:, row, column] = summed
    return found
