"""DeepLab-v2 (Chen et al., TPAMI 2018) on any backbone: an ASPP head and full-size logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.data.labelmap import IGNORE
from wsss.nets.backbone import Network, build_backbone


class ASPP(nn.Module):
    """Parallel 3x3 convolutions with different dilations, summed."""

    def __init__(self, channels: int, classes: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(channels, classes, 3, padding=rate, dilation=rate) for rate in rates
        )
        for branch in self.branches:
            nn.init.normal_(branch.weight, std=0.01)  # type: ignore[arg-type]  # a Conv2d's weight
            nn.init.zeros_(branch.bias)  # type: ignore[arg-type]  # a Conv2d's bias

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, classes, h, w) of features (B, channels, h, w)."""
        return torch.stack([branch(features) for branch in self.branches]).sum(0)


class DeepLab(Network):
    """A backbone and an ASPP head. classes: with background."""

    def __init__(self, name: str, stride: int, classes: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.backbone = build_backbone(name, stride)
        self.aspp = ASPP(self.backbone.channels[-1], classes, rates)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes, h, w) at the backbone's stride."""
        return self.aspp(self.backbone(images)[-1])  # type: ignore[no-any-return]  # nn.Module call


def pixel_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the mean cross-entropy over pixels that are not 255; 0 where all of them are.

    logits: (B, classes, h, w), resized to the masks (B, H, W) of labels.
    """
    full = F.interpolate(logits.float(), masks.shape[1:], mode="bilinear", align_corners=False)
    total = F.cross_entropy(full, masks, ignore_index=IGNORE, reduction="sum")
    return total / (masks != IGNORE).sum().clamp(min=1)
