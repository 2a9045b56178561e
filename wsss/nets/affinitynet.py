"""AffinityNet (Ahn and Kwak, CVPR 2018) on any backbone: similar features mean high affinity."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.errors import ConfigError
from wsss.nets.backbone import Network
from wsss.nets.build import build_backbone
from wsss.nets.frozen import FrozenNet
from wsss.nets.irn import IRN, IRN_LAYOUT, PUZZLE_LAYOUT
from wsss.settings import AffinityParams
from wsss.storage.checkpoint import Layout

# PSA's published file: backbone resnet38, channels (64, 128, 256).
PSA_LAYOUT = Layout(
    (
        (r"^f8_3\.", "reduce.0."),
        (r"^f8_4\.", "reduce.1."),
        (r"^f8_5\.", "reduce.2."),
        (r"^f9\.", "mix."),
        (r"^(?!reduce\.|mix\.)", "backbone."),
    )
)


class AffinityNet(Network):
    """Reduces every feature map of the backbone, concatenates them at one stride, and mixes them.

    stride: pixels per cell of the result. channels: to which each feature map is reduced, one number
    for all maps or one per map.
    """

    def __init__(self, name: str, stride: int, channels: int | tuple[int, ...]) -> None:
        super().__init__()
        self.backbone = build_backbone(name, max(stride, 8) if name != "toy" else stride)
        self.stride = stride
        taps = self.backbone.channels
        widths = (channels,) * len(taps) if isinstance(channels, int) else channels
        if len(widths) != len(taps):
            raise ConfigError(
                f"affinity.channels has {len(widths)} numbers, but {name} has {len(taps)} feature maps. "
                "Give one number for all, or one for each."
            )
        self.reduce = nn.ModuleList(
            nn.Conv2d(tap, out, 1, bias=False) for tap, out in zip(taps, widths, strict=True)
        )
        self.mix = nn.Conv2d(sum(widths), sum(widths), 1, bias=False)
        for layer in self.reduce:
            nn.init.kaiming_normal_(cast("nn.Conv2d", layer).weight)
        nn.init.xavier_uniform_(self.mix.weight, gain=4)  # PSA's code

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, C, H / stride, W / stride), sizes rounded up, of images (B, 3, H, W)."""
        size = [-(-length // self.stride) for length in images.shape[2:]]
        reduced = [
            F.interpolate(F.elu(layer(feature)), size, mode="bilinear", align_corners=False)
            for layer, feature in zip(self.reduce, self.backbone(images), strict=True)
        ]
        return F.elu(self.mix(torch.cat(reduced, 1)))


def affinity_layout(params: AffinityParams) -> Layout:
    """Return how the published file of an affinity network names its tensors.

    Raises:
        ConfigError: no such file is known for this kind on this backbone.
    """
    if (params.kind, params.backbone) == ("affinitynet", "resnet38"):
        return PSA_LAYOUT
    if (params.kind, params.backbone) == ("irn", "resnet50_irn"):
        return IRN_LAYOUT if params.irn.displacement_channels else PUZZLE_LAYOUT
    raise ConfigError(
        f"No published weights are known for affinity.kind {params.kind} on {params.backbone} (they "
        "are for affinitynet on resnet38, and irn on resnet50_irn): set affinity.checkpoint to null."
    )


def build_affinity_network(params: AffinityParams) -> AffinityNet | IRN | FrozenNet:
    """Return the affinity network that `params` describe, with random weights."""
    if params.kind == "frozen":
        return FrozenNet(params.backbone, params.stride, params.frozen)
    if params.kind == "irn":
        return IRN(params.backbone, params.stride, params.irn)
    return AffinityNet(params.backbone, params.stride, params.channels)
