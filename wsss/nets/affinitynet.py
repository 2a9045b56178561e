"""AffinityNet (Ahn and Kwak, CVPR 2018) on any backbone: features whose distance is affinity."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.nets.backbone import Network, build_backbone


class AffinityNet(Network):
    """Reduces each of the backbone's features, joins them at one stride, and mixes them.

    stride: pixels per cell of the result.
    """

    def __init__(self, name: str, stride: int, channels: int) -> None:
        super().__init__()
        self.backbone = build_backbone(name, max(stride, 8) if name != "toy" else stride)
        self.stride = stride
        self.reduce = nn.ModuleList(
            nn.Conv2d(c, channels, 1, bias=False) for c in self.backbone.channels
        )
        joined = channels * len(self.backbone.channels)
        self.mix = nn.Conv2d(joined, joined, 1, bias=False)
        for layer in self.reduce:
            nn.init.kaiming_normal_(cast("nn.Conv2d", layer).weight)
        nn.init.xavier_uniform_(self.mix.weight, gain=4)  # published

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, C, H / stride, W / stride), rounded up."""
        size = [-(-length // self.stride) for length in images.shape[2:]]
        reduced = [
            F.interpolate(F.elu(layer(feature)), size, mode="bilinear", align_corners=False)
            for layer, feature in zip(self.reduce, self.backbone(images), strict=True)
        ]
        return F.elu(self.mix(torch.cat(reduced, 1)))
