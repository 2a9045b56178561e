"""SemFormer's network (Chen et al., arXiv 2210.14618): a transformer with a token for each class.

Its patches predict a mask of each class, the background included. Its class tokens predict the
autoencoder's embedding of each class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.data.resize import pad_to_multiple
from wsss.nets.backbone import Network
from wsss.nets.vit import Shape, ViT
from wsss.storage.checkpoint import Layout

SMALLEST = 1e-5  # added to a range before the division by it (published code)

# The published file also holds DeiT's unused class token and positions.
SEMFORMER_LAYOUT = Layout(
    (
        (r"^segmentor\.backbone\.grid_posembed$", "backbone.pos_embed"),
        (r"^segmentor\.backbone\.model\.", "backbone."),
        (r"^segmentor\.(cls_token|cls_posembed)$", r"backbone.\1"),
        (r"^segmentor\.cls_head\.", "class_head."),
        (r"^segmentor\.seg_head\.1\.", "mask_head."),
    ),
    dropped=(r"segmentor\.backbone\.model\.(?:cls_token|pos_embed)",),
)


class ClassTokenViT(ViT):
    """A transformer whose class tokens have a position table apart from the grid's table.

    grid: cells on a side of the position table.
    """

    def __init__(self, shape: Shape, class_tokens: int, grid: int) -> None:
        super().__init__(replace(shape, grid=grid), 0)
        self.cls_token = nn.Parameter(torch.empty(1, class_tokens, shape.width))
        self.cls_posembed = nn.Parameter(torch.empty(1, class_tokens, shape.width))
        for token in (self.cls_token, self.cls_posembed):
            nn.init.trunc_normal_(token, std=0.02)

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return class tokens and patches with their positions (B, N, D), and the grid (h, w)."""
        patches = self.patch_embed(images)
        grid = (patches.shape[2], patches.shape[3])
        first = (self.cls_token + self.cls_posembed).expand(len(images), -1, -1)
        positions = self.positions(grid, square=grid[0] == grid[1])
        return torch.cat([first, patches.flatten(2).transpose(1, 2) + positions], 1), grid

    def adapt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Adapt initial weights with one class token, which every class starts from."""
        weights = super().adapt(state)
        count = self.cls_token.shape[1]
        weights["cls_token"] = state["cls_token"].expand(-1, count, -1)
        weights["cls_posembed"] = state["pos_embed"][:, :1].expand(-1, count, -1)
        return weights


class ClassHead(nn.Module):
    """One linear layer for each class token.

    As published, initial weights are 16 times too small, because their fan-in counts three axes.
    """

    def __init__(self, classes: int, width: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, width, out))
        self.bias = nn.Parameter(torch.empty(classes, out))
        nn.init.uniform_(self.weight, -1 / math.sqrt(width * out), 1 / math.sqrt(width * out))
        nn.init.uniform_(self.bias, -1 / math.sqrt(width), 1 / math.sqrt(width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return embeddings (B, K, E) of class tokens (B, K, D)."""
        return F.relu(torch.einsum("bkd,kde->bke", tokens, self.weight) + self.bias)


class SemFormerNet(Network):
    """A transformer with a mask logit of every class for each patch, and an embedding of every class.

    classes: with background. width: channels of the embeddings. grid: cells on a side of the position
    table. dropout: probability that a patch of a training image is 0 before the mask head.
    """

    def __init__(self, shape: Shape, classes: int, width: int, grid: int, dropout: float) -> None:
        super().__init__()
        self.backbone: ClassTokenViT = ClassTokenViT(shape, classes, grid)
        self.classes = classes
        self.class_head = ClassHead(classes, shape.width, width)
        self.dropout = nn.Dropout1d(dropout)  # of whole patches: channels are the second axis
        self.mask_head = nn.Linear(shape.width, classes)

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return the first block's input (B, K + N, D) and the grid for images (B, 3, H, W).

        Images are padded to whole patches.
        """
        return self.backbone.embed(pad_to_multiple(images, self.backbone.shape.patch))

    def tokens(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return all tokens after the last LayerNorm (B, K + N, D), and the grid of the patches."""
        tokens, grid = self.embed(images)
        return self.backbone.norm(self.backbone.run(tokens).tokens), grid

    def mask_logits(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return mask logits (B, K, h, w) from all tokens after the last LayerNorm."""
        logits: Tensor = self.mask_head(self.dropout(tokens[:, self.classes :]))
        return logits.transpose(1, 2).reshape(len(tokens), self.classes, *grid)

    def forward(self, images: Tensor) -> Tensor:
        """Return mask logits (B, K, h, w)."""
        return self.mask_logits(*self.tokens(images))

    def learn(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mask logits (B, K, h, w) and class embeddings (B, K, E)."""
        tokens, grid = self.tokens(images)
        return self.mask_logits(tokens, grid), self.class_head(tokens[:, : self.classes])

    def attended(self, images: Tensor, layers: int) -> tuple[Tensor, Tensor]:
        """Return mask logits and the class tokens' attention to patches, both (B, K, h, w).

        The attention is averaged over heads and summed over the last `layers` blocks.
        """
        tokens, grid = self.embed(images)
        total = tokens.new_zeros(())
        first = len(self.backbone.blocks) - layers
        for number, block in enumerate(self.backbone.blocks):
            tokens, weights = block(tokens, "mean" if number >= first else "none")
            if weights is not None:
                total = total + weights[:, : self.classes, self.classes :]
        attention = total.reshape(len(tokens), self.classes, *grid)
        return self.mask_logits(self.backbone.norm(tokens), grid), attention


def spread_out(maps: Tensor) -> Tensor:
    """Scale each map of (B, K, h, w) so that its smallest value is 0 and its largest just below 1."""
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (high - low + SMALLEST)
