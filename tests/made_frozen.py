"""A batch for single-stage methods on a frozen CLIP, and their losses on it."""

import torch
from torch import Tensor

from wsss.methods.frozen.base import FrozenClip
from wsss.methods.frozen.network import FrozenNet

CLASSES = 4
PRESENT = torch.tensor([[1.0, 0, 1, 1], [0, 0, 0, 1]])


def items(present: Tensor = PRESENT) -> dict[str, Tensor]:
    """Return random images (B, 3, 48, 64) with the labels `present` (B, C)."""
    torch.manual_seed(1)
    return {"image": torch.randn(len(present), 3, 48, 64), "label": present}


def losses(
    method: FrozenClip, net: FrozenNet, step: int, batch: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return the terms of a step (from 0), with the same dropout in every call."""
    torch.manual_seed(2)
    return method.losses("classifier", {"classifier": net}, batch, step)
