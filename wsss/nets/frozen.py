"""Features of a network that nobody trains: the affinity of two cells is how similar theirs are."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.errors import ConfigError
from wsss.nets import vit
from wsss.nets.backbone import Backbone, Network
from wsss.nets.build import build_backbone
from wsss.settings import FrozenParams

LAST_STRIDE = 16  # of the last features of a convolutional network
TRANSFORMERS = ("vit_", "deit", "eva02_")  # how timm's names of transformers begin
COLOURS = 3  # channels


class TimmTransformer(Backbone):
    """A vision transformer of timm, such as DINOv2's or CLIP's, on images of any size."""

    def __init__(self, name: str) -> None:
        super().__init__()
        import timm  # noqa: PLC0415  # takes four seconds to import

        body: Any = timm.create_model(
            name, num_classes=0, dynamic_img_size=True, dynamic_img_pad=True
        )
        self.body = body
        normalisation = body.default_cfg
        self.mean, self.std = tuple(normalisation["mean"]), tuple(normalisation["std"])
        self.channels = (body.embed_dim,) * len(body.blocks)
        self.strides = (body.patch_embed.patch_size[0],) * len(body.blocks)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the patch tokens (B, D, h, w) of each block after the final norm layer.

        Images are padded at the right and bottom to whole patches.
        """
        maps: list[Tensor] = self.body.forward_intermediates(
            images, norm=True, intermediates_only=True
        )
        return maps


class FrozenNet(Network):
    """Unit vectors at one stride, from feature maps of a backbone, and the colours behind them.

    stride: pixels per cell of the result.
    """

    def __init__(self, name: str, stride: int, params: FrozenParams) -> None:
        super().__init__()
        is_transformer = name.startswith(TRANSFORMERS)
        if is_transformer and not vit.shape_of(name):
            self.backbone = TimmTransformer(name)
        else:
            self.backbone = build_backbone(name, 8 if name == "toy" else LAST_STRIDE)
        self.stride, self._params = stride, params
        self._layers = params.layers or ((-1,) if is_transformer else (0,))
        count = len(self.backbone.channels)
        if any(not -count <= layer < count for layer in self._layers):
            raise ConfigError(
                f"affinity.frozen.layers has {list(self._layers)}, but {name} has {count} feature maps: "
                f"0 to {count - 1}."
            )

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, C + 3, h, w) of images (B, 3, H, W) whose sides are multiples of the stride.

        The first C channels are a unit vector, the last three the mean colour of the cell in [0, 1], up
        to a constant.
        """
        height, width = images.shape[2:]
        grid = (height // self.stride, width // self.stride)
        maps = self.backbone(self._enlarged(images))
        parts = [
            F.normalize(F.interpolate(maps[layer].float(), grid, mode="bilinear"), dim=1)
            for layer in self._layers
        ]
        std = images.new_tensor(self.backbone.std) * self.backbone.unit / 255
        colours = F.avg_pool2d(images.float() * std[:, None, None], self.stride)
        return torch.cat([*(part / len(parts) ** 0.5 for part in parts), colours], 1)

    def _enlarged(self, images: Tensor) -> Tensor:
        if self._params.enlarge == 1:
            return images
        size = [round(length * self._params.enlarge) for length in images.shape[2:]]
        return F.interpolate(images, size, mode="bilinear")
