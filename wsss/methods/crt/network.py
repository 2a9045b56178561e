"""CRT's networks (Huo, Su and Wu, arXiv 2209.15211): a transformer and a CNN, both with class maps.

For localization the transformer encodes the whole image in one pass, as TS-CAM does (Gao et al., ICCV
2021).
"""

from __future__ import annotations

import dataclasses
from typing import cast

import torch
from torch import Tensor, nn

from wsss.methods.crt import tiles
from wsss.nets.backbone import Backbone, Network
from wsss.nets.build import build_backbone
from wsss.nets.vit import Shape, ViT
from wsss.settings import AuxiliaryCnnParams
from wsss.storage.checkpoint import Layout


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How the transformer encodes images.

    passes: how often tokens pass through all blocks; with several passes, the input of a pass is added
    to its output. tile_px: side of the tiles that an image is cut into; 0 encodes it whole. drop_path:
    stochastic depth of the last block.
    """

    passes: int = 3
    tile_px: int = 224
    drop_path: float = 0.0


class CRTNet(Network):
    """A transformer whose patches have a score for each class, and an auxiliary CNN with class maps.

    auxiliary_cnn: None is TS-CAM. epochs_done: finished epochs of the training.
    """

    backbone: ViT
    epochs_done: Tensor

    def __init__(
        self, shape: Shape, classes: int, encoding: Encoding, auxiliary_cnn: Backbone | None = None
    ) -> None:
        super().__init__()
        self.encoding = encoding
        if encoding.tile_px:
            shape = dataclasses.replace(shape, grid=encoding.tile_px // shape.patch)
        self.backbone = ViT(shape, drop_path=encoding.drop_path)
        self.head = nn.Conv2d(shape.width, classes, 3, padding=1)
        self.auxiliary_cnn = auxiliary_cnn
        self.register_buffer("epochs_done", torch.tensor(0))
        if auxiliary_cnn is not None:
            self.auxiliary_head = nn.Conv2d(auxiliary_cnn.channels[-1], classes, 1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the transformer's scores (B, C), the means of its maps."""
        return self.maps(images).mean((2, 3))

    def maps(self, images: Tensor) -> Tensor:
        """Return the transformer's signed class maps (B, C, h, w); every cell begins in the image."""
        side = self.encoding.tile_px
        if not side:
            return self.encode(images, attend=False)[0]
        return self._tiled(images, tiles.pad(images, side), attend=False)

    def attended(self, images: Tensor) -> Tensor:
        """Return the signed class maps (B, C, h, w) times the class token's attention."""
        side = self.encoding.tile_px
        if not side:
            scores, attention = self.encode(images, attend=True)
            return scores * attention
        return self._tiled(images, tiles.pad(images, side, always=True), attend=True)

    def _tiled(self, images: Tensor, padded: Tensor, *, attend: bool) -> Tensor:
        patch = self.backbone.shape.patch
        scores, attention = self.encode(tiles.cut(padded, self.encoding.tile_px), attend=attend)
        merged = tiles.merge(
            scores * attention, (padded.shape[2] // patch, padded.shape[3] // patch)
        )
        rows, columns = (-(-side // patch) for side in images.shape[2:])
        return merged[:, :, :rows, :columns]

    def encode(self, images: Tensor, *, attend: bool) -> tuple[Tensor, Tensor]:
        """Return the class maps (B, C, h, w) of whole images and the attention (B, 1, h, w).

        The attention of the class token to each patch is averaged over heads and summed over blocks
        and passes. attend: without it, the attention is 1 everywhere.
        """
        tokens, grid = self.backbone.embed(images)
        total = tokens.new_zeros(len(images), 1, grid[0] * grid[1])
        for _ in range(self.encoding.passes):
            encoded = self.backbone.run(tokens, "mean" if attend else "none")
            tokens = tokens + encoded.tokens if self.encoding.passes > 1 else encoded.tokens
            for weights in encoded.attention:
                total = total + weights[:, :1, 1:]
        scores = self.head(self.backbone.as_map(self.backbone.norm(tokens), grid))
        attention = (
            total.reshape(len(images), 1, *grid) if attend else torch.ones_like(scores[:, :1])
        )
        return scores, attention

    def auxiliary_maps(self, images: Tensor) -> Tensor:
        """Return the auxiliary CNN's signed class maps (B, C, h, w)."""
        features = cast("Backbone", self.auxiliary_cnn)(images)
        return self.auxiliary_head(features[-1])  # type: ignore[no-any-return]  # nn.Module call


def build(
    shape: Shape, classes: int, encoding: Encoding, auxiliary_cnn: AuxiliaryCnnParams | None
) -> CRTNet:
    """Return the network with random weights."""
    cnn = build_backbone(auxiliary_cnn.backbone, auxiliary_cnn.stride) if auxiliary_cnn else None
    return CRTNet(shape, classes, encoding, cnn)


# Each of the authors' files holds one network; every tensor of a CNN has up to four names there.
TRANSFORMER = Layout(((r"^(?!head\.)", "backbone."),), absent=(r"auxiliary_.*|epochs_done",))
CNN = Layout(
    ((r"^resnet50\.", "auxiliary_cnn.body."), (r"^classifier\.", "auxiliary_head.")),
    dropped=(r"(?:backbone|newly_added|stage\d)\..*",),
    absent=(r"(?:backbone|head)\..*|epochs_done",),
)
