"""The losses that WeCLIP+ adds to WeCLIP's: dice, and two branches that teach each other.

Labels are 0 for background, k + 1 for class k, and 255 for unknown.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wsss.data.labelmap import IGNORE
from wsss.methods.single_stage.dense_energy import balanced
from wsss.methods.single_stage.online_labels import largest
from wsss.methods.weclip_plus.network import Pair

EPSILON = 1e-7  # added to the sum by which an overlap is divided


def dice(logits: Tensor, labels: Tensor) -> Tensor:
    """Return 1 - the mean dice coefficient of all channels over the batch, those of absent classes too.

    logits: (B, 1 + C, H, W). labels: (B, H, W); unknown pixels are left out.
    """
    channels = torch.arange(logits.shape[1], device=logits.device)[:, None, None]
    target = labels[:, None] == channels  # an unknown pixel is of no channel
    probability = logits.softmax(1) * (labels != IGNORE)[:, None]
    overlap = (probability * target).sum((0, 2, 3))
    total = probability.sum((0, 2, 3)) + target.sum((0, 2, 3))
    return 1 - (2 * overlap / (total + EPSILON)).mean()


def mutual(logits: Pair, labels: Tensor) -> Tensor:
    """Return the sum of the losses of each branch (B, 1 + C, H, W) on the other branch's prediction.

    labels: (B, H, W); pixels that are unknown there are left out.
    """
    is_unknown = labels == IGNORE
    clip, second = (largest(branch, 1).masked_fill(is_unknown, IGNORE) for branch in logits)
    return balanced(logits.clip, second) + balanced(logits.second, clip)


@torch.no_grad()
def with_sure_predictions(labels: Tensor, logits: Tensor, above: float) -> Tensor:
    """Return labels (B, H, W) with the decoder's prediction where its probability is above `above`.

    logits: (B, 1 + C, H, W). Unknown pixels stay unknown.
    """
    probability, prediction = logits.softmax(1).max(1)
    is_sure = (probability > above) & (labels != IGNORE)
    return torch.where(is_sure, prediction, labels)
