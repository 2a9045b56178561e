"""The dense energy loss (Tang et al., ECCV 2018): nearby pixels of like colour should agree in label."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.data.labelmap import IGNORE
from wsss.refine.permutohedral import bilateral

# Constants of ToCo's published code.
WEIGHT = 1e-7
COLOUR, POSITION_PX = 15.0, 100.0  # widths of the filter, in grey levels of 255 and in pixels
SHRINK = 0.5  # resize factor of images, labels and probabilities before filtering


def balanced(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of the mean cross-entropies over background pixels and over object pixels.

    logits: (B, C, H, W). labels: (B, H, W), 255 is ignored. Without pixels a mean is 0.
    """
    losses = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    background = labels == 0
    objects = ~background & (labels != IGNORE)
    means = [(losses * part).sum() / (part.sum() + 1e-6) for part in (background, objects)]
    return 0.5 * (means[0] + means[1])


def dense_energy(images: Tensor, logits: Tensor, labels: Tensor, boxes: Tensor) -> Tensor:
    """Return the dense energy loss; its gradient treats the filtered probabilities as constant.

    images: (B, 3, H, W) in [0, 255]. logits: (B, C, H, W). labels: (B, H, W). boxes: true where a
    pixel is image (B, H, W).
    """
    nearest = {"scale_factor": SHRINK, "mode": "nearest", "recompute_scale_factor": False}
    probabilities = F.interpolate(
        logits.softmax(1), scale_factor=SHRINK, mode="bilinear", align_corners=False,
        recompute_scale_factor=False,
    )  # fmt: skip
    small = F.interpolate(images, **nearest)  # type: ignore[arg-type]  # values of three types
    region = F.interpolate(boxes[:, None].float(), **nearest)  # type: ignore[arg-type]  # likewise
    silent = F.interpolate(labels[:, None].float(), **nearest) == IGNORE  # type: ignore[arg-type]
    with torch.no_grad():
        inside = probabilities * region
        gate = region - probabilities.amax(1, keepdim=True)
        gate = torch.where(silent, 1.0, gate).clamp(min=0)
        spread = gate * torch.stack(
            [
                bilateral(image, values, COLOUR, POSITION_PX * SHRINK)
                for image, values in zip(small, inside, strict=True)
            ]
        )
    twice = -2 * WEIGHT * (probabilities * region * spread).sum() / len(images)
    return twice - 0.5 * twice.detach()
