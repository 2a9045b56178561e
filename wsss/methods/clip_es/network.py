"""CLIP's image tower with vectors that stand for classes and backgrounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.errors import ConfigError
from wsss.nets import clip_vit
from wsss.nets.backbone import Network
from wsss.nets.clip_vit import ClipViT
from wsss.nets.vit import Block


@dataclass(frozen=True)
class Encoded:
    """Images before the last block.

    tokens: (B, 1 + h * w, D). attention: sum over the last blocks before it, averaged over heads
    (B, N, N). blocks: their number. grid: (h, w).
    """

    tokens: Tensor
    attention: Tensor
    blocks: int
    grid: tuple[int, int]


class ClipNet(Network):
    """An image tower, and unit vectors of the classes (C, D) and of backgrounds (K, D).

    The vectors are random until a method or a file of weights gives others, of any number of backgrounds.
    """

    backbone: ClipViT
    classes: Tensor
    background: Tensor

    def __init__(self, backbone: ClipViT, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        width = backbone.head.out_features
        self.register_buffer("classes", F.normalize(torch.randn(classes, width), dim=1))
        self.register_buffer("background", F.normalize(torch.randn(1, width), dim=1))

    def make_room(self, state: Mapping[str, Tensor]) -> None:
        """Give the vectors of backgrounds the shape that they have in `state`."""
        if "background" in state:
            self.background = torch.zeros_like(state["background"])

    def set_vectors(self, vectors: Mapping[str, Tensor]) -> None:
        """Take the unit vectors `classes` (C, D) and `background` (K, D)."""
        device = self.classes.device
        with torch.inference_mode(False):  # a training may follow
            self.classes, self.background = (
                vectors[name].to(device).clone() for name in ("classes", "background")
            )

    @property
    def last(self) -> Block:
        """The last block, whose input GradCAM explains."""
        return cast("Block", self.backbone.blocks[-1])

    def encode(self, images: Tensor, layers: int) -> Encoded:
        """Send images (B, 3, H, W) through all blocks but the last.

        layers: how many of the last blocks' attention is averaged, the last one included.
        """
        tokens, grid = self.backbone.embed(images)
        earlier = cast("list[Block]", list(self.backbone.blocks)[:-1])
        first = len(earlier) + 1 - layers
        attention = tokens.new_zeros((), dtype=torch.float32)
        for number, block in enumerate(earlier):
            tokens, weights = block(tokens, "mean" if number >= first else "none")
            if weights is not None:
                attention = attention + weights.float()
        return Encoded(tokens, attention, min(layers - 1, len(earlier)), grid)

    def last_block(self, tokens: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit vectors of images (B, D'), and the attention of the last block (B, N, N).

        tokens: before the last block (B, N, D). normal: the same after the block's first LayerNorm. The
        vector of an image is the projected mean of its patches, not its class token.
        """
        mixed, weights = self.last.attn(normal, "mean")
        tokens = tokens + mixed
        tokens = tokens + self.last.mlp(self.last.norm2(tokens))
        patches = self.backbone.norm(tokens)[:, self.backbone.special :]
        return self.backbone.project(patches.mean(1)), weights

    def forward(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, D') of images (B, 3, H, W)."""
        tokens = self.encode(images, 1).tokens
        normal = self.last.norm1(tokens)
        return self.last_block(tokens, normal)[0]


def image_tower(backbone: str, network: str, round_positions: bool) -> ClipViT:
    """Return the image tower called `backbone` with random weights, for the network `network`.

    Raises:
        ConfigError: the backbone is not an image tower of CLIP.
    """
    shape = clip_vit.shape_of(backbone)
    if shape is None:
        raise ConfigError(
            f"networks.{network}.backbone: {backbone} is no image tower of CLIP. Set it to "
            f"{' or '.join(clip_vit.SHAPES)}."
        )
    return ClipViT(shape, round_positions=round_positions)
