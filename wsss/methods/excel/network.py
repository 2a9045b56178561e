"""A frozen CLIP with a second path through its last blocks, whose patches resemble words (ExCEL)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.methods.frozen.network import DecoderHyperParameters, FrozenNet
from wsss.nets.clip_vit import ClipViT
from wsss.nets.vit import Block


class ExcelNetworkHyperParameters(DecoderHyperParameters, Protocol):
    """The hyper-parameters of the network; excel.yaml explains them."""

    calibrated: int
    sum_heads: bool
    aliased_features: bool


@dataclass(frozen=True)
class Calibration:
    """What the second path needs of one block.

    similarity: of tokens, summed over heads (B, N, N). value: of the attention (B, heads, N, D / heads).
    """

    similarity: Tensor
    value: Tensor


@dataclass(frozen=True)
class Encoded:
    """Images after both paths.

    outputs: tokens after each block (B, N, D). inner: tokens of the calibrated blocks after their
    attention, before their MLP. calibrations: of these blocks. attention: of all blocks, a mean or a sum
    over heads (B, N, N). second: tokens at the end of the second path (B, N, D). grid: (h, w).
    """

    outputs: list[Tensor]
    inner: list[Tensor]
    calibrations: list[Calibration]
    attention: list[Tensor]
    second: Tensor
    grid: tuple[int, int]


class ExcelNet(FrozenNet):
    """A frozen tower with two paths, and a decoder on the tokens of all blocks."""

    def __init__(
        self, backbone: ClipViT, classes: int, hyper_parameters: ExcelNetworkHyperParameters
    ) -> None:
        super().__init__(backbone, classes, hyper_parameters, inputs=backbone.shape.depth)
        self.first_calibrated = max(1, backbone.shape.depth - hyper_parameters.calibrated)
        self.sum_heads = hyper_parameters.sum_heads
        self.aliased = hyper_parameters.aliased_features

    @torch.no_grad()
    def encode_twice(self, images: Tensor) -> Encoded:
        """Send images (B, 3, H, W) through all blocks, and through the second path without feedback."""
        tokens, grid = self.backbone.embed(images)
        outputs, inner, attention = [], [], []
        calibrations: list[Calibration] = []
        for number, block in enumerate(cast("list[Block]", list(self.backbone.blocks))):
            normal = block.norm1(tokens)
            mixed, weights = block.attn(normal, "heads")
            tokens = tokens + mixed
            if number >= self.first_calibrated:
                calibrations.append(calibration(block, normal))
                inner.append(tokens)
            summed = self.sum_heads and number >= self.first_calibrated
            attention.append(weights.sum(1) if summed else weights.mean(1))
            tokens = tokens + block.mlp(block.norm2(tokens))
            outputs.append(tokens)
        second = self.second_path(outputs, calibrations, None)
        return Encoded(outputs, inner, calibrations, attention, second, grid)

    @torch.no_grad()
    def second_path(
        self, outputs: list[Tensor], calibrations: list[Calibration], feedback: Tensor | None
    ) -> Tensor:
        """Return tokens (B, N, D) at the end of the second path, which has no MLPs.

        Its attention is the similarity of tokens on the first path. feedback: added to the similarity of
        patches (B, n, n) in every head.
        """
        tokens, special = outputs[self.first_calibrated - 1], self.backbone.special
        blocks = cast("list[Block]", list(self.backbone.blocks)[self.first_calibrated :])
        for block, known in zip(blocks, calibrations, strict=True):
            similarity = known.similarity
            if feedback is not None:
                heads = known.value.shape[1]
                similarity = similarity + heads * F.pad(feedback, (special, 0, special, 0))
            mixed = similarity[:, None] @ known.value
            tokens = tokens + block.attn.proj(mixed.transpose(1, 2).flatten(2))
        return torch.cat([outputs[-1][:, :special], tokens[:, special:]], 1)

    @torch.no_grad()
    def dense(self, encoded: Encoded, feedback: Tensor | None) -> Tensor:
        """Return vectors of tokens (B, N, D') in the space of words, not normalised. feedback: of `second_path`."""
        tokens = encoded.second
        if feedback is not None:
            tokens = self.second_path(encoded.outputs, encoded.calibrations, feedback)
        return self.backbone.head(self.backbone.norm(tokens))  # type: ignore[no-any-return]  # nn.Module call

    def decoder_inputs(self, encoded: Encoded) -> list[Tensor]:
        """Return the tokens (B, N, D) that the decoder reads, one for each block.

        As published, additions in place change some: the block before the first calibrated one is
        replaced by the end of the second path, later ones have the attention of the next block added.
        """
        if not self.aliased:
            return encoded.outputs
        earlier = encoded.outputs[: self.first_calibrated - 1]
        return [*earlier, encoded.second, *encoded.inner[1:], encoded.outputs[-1]]


def calibration(block: Block, normal: Tensor) -> Calibration:
    """Return the similarity of tokens (B, N, D): the mean of those of queries, of keys and of values."""
    attention = block.attn
    parts = attention.qkv(normal).unflatten(2, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4)
    scores = parts @ parts.transpose(3, 4) * parts.shape[-1] ** -0.5
    return Calibration(scores.softmax(-1).mean(0).sum(1), parts[2])


def similarity_maps(
    dense: Tensor, classes: Tensor, background: Tensor, grid: tuple[int, int]
) -> Tensor:
    """Return how much patches resemble each class (B, C, h, w), in [0, 1].

    dense: vectors of tokens (B, 1 + h * w, D), class token first; each channel is divided by its length over
    the tokens. Vectors of words that the class token resembles count more, and the mean over all words is
    subtracted (CLIP Surgery). classes: (C, D). background: (K, D).
    """
    vectors = torch.cat([classes, background])
    scores = F.normalize(dense, dim=1) @ vectors.T
    weighed = scores * len(vectors) * (2 * scores[:, :1]).softmax(2)
    relative = weighed - weighed.mean(2, keepdim=True)
    low, high = relative.amin(1, keepdim=True), relative.amax(1, keepdim=True)
    maps = ((relative - low) / (high - low))[:, 1:, : len(classes)]
    return maps.transpose(1, 2).reshape(len(maps), -1, *grid)
