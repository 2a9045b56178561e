"""Features of a network that nobody trains: the affinity of two cells is how similar theirs are."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.errors import ConfigError
from wsss.nets.backbone import Network
from wsss.nets.build import build_backbone
from wsss.nets.timm_transformer import TimmTransformer
from wsss.settings import FrozenParams

LAST_STRIDE = 16  # of the last features of a convolutional network
# The unit in mean distances. With walk.beta 8 the affinity of two cells that far apart as adjacent ones is
# exp(-5), which is near the best on three datasets with two networks (docs/frozen-affinity.md).
UNIT_DISTANCES = 1.6
LEAST_DISTANCE = 0.01  # smaller distances count as this much, so flat areas do not decide the unit


class FrozenNet(Network):
    """Maps at one stride whose cells are as far apart as their features differ in frozen layers.

    stride: pixels per cell of the result. The buffer `unit` is the distance 1 - cosine that counts as 1.
    """

    unit: Tensor

    def __init__(self, name: str, stride: int, params: FrozenParams) -> None:
        super().__init__()
        self.backbone = backbone = build_backbone(name, 8 if name == "toy" else LAST_STRIDE)
        self.stride, self._params = stride, params
        self._layers, count = params.layers or (0,), len(backbone.channels)
        if isinstance(backbone, TimmTransformer):
            self._layers, count = params.layers or (-1,), backbone.depth
        if any(not -count <= layer < count for layer in self._layers):
            raise ConfigError(
                f"affinity.frozen.layers has {list(self._layers)}, but {name} has {count} feature maps: "
                f"0 to {count - 1}."
            )
        self.register_buffer("unit", torch.tensor(1.0))

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C, h, w) of images (B, 3, H, W) whose sides are multiples of the stride.

        Half the squared difference of two cells is (1 - cosine of their features) / unit, and if colours are
        compared, their squared distance times its weight in addition.
        """
        scaled = self.features(images) / self.unit.sqrt()
        if not self._params.colours:
            return scaled
        std = images.new_tensor(self.backbone.std) * self.backbone.unit / 255
        colours = F.avg_pool2d(images.float() * std[:, None, None], self.stride)
        return torch.cat([scaled, colours * math.sqrt(2 * self._params.colours)], 1)

    def features(self, images: Tensor) -> Tensor:
        """Return the features as unit vectors (B, C, h, w); the layers share the length equally."""
        height, width = images.shape[2:]
        grid = (height // self.stride, width // self.stride)
        enlarged, backbone = self._enlarged(images), self.backbone
        run = backbone.blocks if isinstance(backbone, TimmTransformer) else backbone
        maps = run(enlarged)
        parts = [
            F.normalize(F.interpolate(maps[layer].float(), grid, mode="bilinear"), dim=1)
            for layer in self._layers
        ]
        return torch.cat(parts, 1) / math.sqrt(len(parts))

    def _enlarged(self, images: Tensor) -> Tensor:
        if self._params.enlarge == 1:
            return images
        size = [round(length * self._params.enlarge) for length in images.shape[2:]]
        return F.interpolate(images, size, mode="bilinear")


def measure_unit(net: FrozenNet, images: Iterable[Tensor]) -> None:
    """Set the unit of a network: 1.6 times the geometric mean of the distances of adjacent cells.

    images: batches (B, 3, H, W) on the device of the network, whose sides are multiples of the stride. The
    unit stays 1 without any adjacent cells.
    """
    total, count = 0.0, 0
    with torch.inference_mode():
        for batch in images:
            features = net.features(batch)
            beside = (features[..., 1:] * features[..., :-1]).sum(1)
            below = (features[:, :, 1:] * features[:, :, :-1]).sum(1)
            distances = 1 - torch.cat([beside.flatten(), below.flatten()])
            total += float(distances.clamp_min(LEAST_DISTANCE).double().log().sum())
            count += len(distances)
    if count:
        net.unit.fill_(UNIT_DISTANCES * math.exp(total / count))
