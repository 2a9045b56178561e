"""A decoder on the tokens of a frozen tower: fused features, then transformer blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from wsss.methods.clip_es.network import ClipNet
from wsss.nets.clip_vit import ClipViT, quick_gelu
from wsss.nets.vit import Block
from wsss.storage.checkpoint import KeyTable

EPS = 1e-5  # of the decoder's LayerNorms

# The names that WeCLIP's and ExCEL's code gives to the layers of the decoder -> ours.
TABLE: KeyTable = (
    (r"linears_modulelist\.(\d+)\.proj\.", r"layers.\1.0."),
    (r"linears_modulelist\.(\d+)\.proj_2\.", r"layers.\1.2."),
    (r"linear_fuse\.", "merge."),
    (r"^decoder_fts_fuse\.", "fuse."),
    (r"^decoder\.linear_pred\.", "decoder.predict."),
    (r"^decoder\.transformer\.resblocks\.", "decoder.blocks."),
    (r"(\.\d+)\.ln_(\d)\.", r"\1.norm\2."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)


class DecoderHyperParameters(Protocol):
    """The hyper-parameters of the decoder."""

    width: int
    heads: int
    decoder_blocks: int
    dropout: float


@dataclass(frozen=True)
class Tokens:
    """Images before the last block of a tower.

    blocks: patch and class tokens after each of its blocks but the last (B, 1 + h * w, D). attention: of
    the last few of these blocks, averaged over heads (B, 1 + h * w, 1 + h * w). grid: (h, w).
    """

    blocks: list[Tensor]
    attention: list[Tensor]
    grid: tuple[int, int]


def as_map(tokens: Tensor, grid: Sequence[int]) -> Tensor:
    """Return tokens of patches (B, h * w, D) as a map (B, D, h, w)."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *grid)


class FuseHead(nn.Module):
    """Fused features of several token maps: an MLP for each, then a 1x1 convolution over all.

    inputs: number of maps, each with `channels` channels. dropout: probability that a channel is dropped.
    """

    def __init__(self, inputs: int, channels: int, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(channels, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(inputs)
        )
        self.merge = nn.Conv2d(inputs * width, width, 1)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, tokens: Sequence[Tensor], grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return features (B, width, h, w), with and without dropout. tokens: of patches (B, h * w, D)."""
        changed = [layer(x) for layer, x in zip(self.layers, tokens, strict=True)]
        features = self.merge(as_map(torch.cat(changed, 2), grid))
        return self.dropout(features), features


class TokenDecoder(nn.Module):
    """Transformer blocks over all cells, without positions, and a 1x1 convolution to logits."""

    def __init__(self, hyper_parameters: DecoderHyperParameters, channels: int) -> None:
        super().__init__()
        width, heads = hyper_parameters.width, hyper_parameters.heads
        self.blocks = nn.ModuleList(
            Block(width, heads, eps=EPS, activation=quick_gelu)
            for _ in range(hyper_parameters.decoder_blocks)
        )
        for block in self.blocks:
            attention = cast("Block", block).attn
            nn.init.xavier_uniform_(attention.qkv.weight)  # as PyTorch's own attention
            nn.init.zeros_(attention.qkv.bias)
            nn.init.zeros_(attention.proj.bias)
        self.predict = nn.Conv2d(width, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, channels, h, w) of features (B, width, h, w)."""
        tokens = features.flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens, _ = block(tokens)
        return self.predict(as_map(tokens, features.shape[2:]))  # type: ignore[no-any-return]  # nn.Module call


class FrozenNet(ClipNet):
    """A frozen tower with a trained decoder on the tokens of its blocks.

    inputs: number of blocks whose tokens the decoder reads; None is all but the last.
    """

    def __init__(
        self,
        backbone: ClipViT,
        classes: int,
        hyper_parameters: DecoderHyperParameters,
        inputs: int | None = None,
    ) -> None:
        super().__init__(backbone, classes)
        backbone.requires_grad_(False)
        width, shape = hyper_parameters.width, backbone.shape
        inputs = shape.depth - 1 if inputs is None else inputs
        self.fuse = FuseHead(inputs, shape.width, width, hyper_parameters.dropout)
        self.decoder = TokenDecoder(hyper_parameters, classes + 1)

    @torch.no_grad()
    def encode_blocks(self, images: Tensor, layers: int) -> Tokens:
        """Send images (B, 3, H, W) through all blocks but the last, in the precision of autocast.

        layers: number of the last blocks whose attention is needed, the last one included.
        """
        tokens, grid = self.backbone.embed(images)
        depth = len(self.backbone.blocks)
        result = Tokens([], [], grid)
        for number, block in enumerate(list(self.backbone.blocks)[:-1]):
            tokens, weights = block(tokens, "mean" if number >= depth - layers else "none")
            result.blocks.append(tokens.float())
            if weights is not None:
                result.attention.append(weights.float())
        return result

    def features(self, tokens: Sequence[Tensor], grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return fused features (B, width, h, w), with and without dropout, of tokens (B, 1 + h * w, D)."""
        patches = [block[:, self.backbone.special :] for block in tokens]
        return self.fuse(patches, grid)  # type: ignore[no-any-return]  # nn.Module call

    def patch_attention(self, tokens: Tokens, last: Tensor) -> Tensor:
        """Return the attention between patches (B, L, n, n) of the last blocks.

        last: attention of the last block (B, 1 + n, 1 + n).
        """
        special = self.backbone.special
        return torch.stack([*tokens.attention, last], 1)[:, :, special:, special:]
