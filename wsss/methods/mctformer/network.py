"""A transformer with a class token per class (MCTformer, Xu et al., CVPR 2022), and its maps.

V1 scores class tokens alone; V2 scores patches as well; plus (2023) has one position table for class
tokens and one for patches, and pools the patches' scores by rank. PCSS trains V2's network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.nets.backbone import Network
from wsss.nets.vit import AttentionKind, Change, Shape, ViT, resize_table, transformer
from wsss.settings import ClassifierParams
from wsss.storage.checkpoint import Layout

Version = Literal["v1", "v2", "plus"]
MapKind = Literal["fused", "patches", "tokens"]
RANK_DECAY = 0.996  # of the weights of plus's pooling
FACTOR_OFFSET = 0.1  # cells added to the grid when the position table is resized (plus: 0)


class SplitViT(ViT):
    """A ViT with one position table for class tokens and one for patches.

    source: rows of DeiT's position table, which stays unused, as in the published files.
    """

    def __init__(self, shape: Shape, class_tokens: int, drop_path: float, source: int) -> None:
        super().__init__(shape, class_tokens, drop_path=drop_path, factor_offset=0.0)
        positions = self.pos_embed.detach()
        self.pos_embed_cls = nn.Parameter(positions[:, :class_tokens].clone())
        self.pos_embed_pat = nn.Parameter(positions[:, class_tokens:].clone())
        self.pos_embed = nn.Parameter(torch.zeros(1, source, shape.width), requires_grad=False)

    def positions(self, grid: tuple[int, int], square: bool) -> Tensor:
        """Return both tables in one (1, classes + h * w, D), resized to a grid (h, w) of patches."""
        return torch.cat([self.pos_embed_cls, resize_table(self.pos_embed_pat, grid, 0.0)], 1)

    def adapt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Adapt initial weights with one class token; patches take the nearest patch's position."""
        weights = dict(state)
        table, side = weights["pos_embed"], self.shape.grid
        small = int((table.shape[1] - 1) ** 0.5)
        cells = table[:, 1:].transpose(1, 2).reshape(1, -1, small, small)
        weights["pos_embed_pat"] = F.interpolate(cells, (side, side)).flatten(2).transpose(1, 2)
        weights["pos_embed_cls"] = table[:, :1].expand(-1, self.class_tokens, -1)
        weights["cls_token"] = weights["cls_token"].expand(-1, self.class_tokens, -1)
        return weights


@dataclass
class Encoded:
    """The results of a forward pass.

    tokens: class tokens (B, C, D). scores: the patches' scores (B, C, h, w). attention: of each block,
    averaged over heads (B, N, N). block_tokens: all tokens (B, N, D) after chosen blocks, by block.
    """

    tokens: Tensor
    scores: Tensor
    attention: list[Tensor]
    block_tokens: dict[int, Tensor]

    @property
    def class_logits(self) -> Tensor:
        """The mean of each class token over its channels (B, C)."""
        return self.tokens.mean(2)

    @property
    def patch_map(self) -> Tensor:
        """The positive part of the patches' scores (B, C, h, w)."""
        return F.relu(self.scores)

    def class_map(self, blocks: int, mean: bool) -> Tensor:
        """Return the attention of class tokens to patches (B, C, h, w), summed over the last blocks.

        blocks: their number; 0 is all. mean: average over blocks instead of summing.
        """
        count = self.scores.shape[1]
        layers = [weights[:, :count, count:] for weights in self.attention[-blocks:]]
        total = torch.stack(layers).sum(0)
        return (total / len(layers) if mean else total).reshape(self.scores.shape)

    def spread(self, maps: Tensor) -> Tensor:
        """Spread maps (B, C, h, w) along the patches' attention, summed over all blocks.

        Each patch gathers the values of the patches that it attends to, weighted by the attention.
        """
        count = self.scores.shape[1]
        affinity = sum(weights[:, count:, count:] for weights in self.attention)
        spread = torch.einsum("bij,bcj->bci", affinity, maps.flatten(2))
        return spread.reshape(maps.shape)


class MCTformer(Network):
    """Class tokens and patches of one transformer, and a score of every patch for every class.

    shape: of the transformer with the initial weights. grid: cells on a side of the position table,
    if it differs from the table in `shape`.
    """

    backbone: ViT

    def __init__(
        self,
        shape: Shape,
        classes: int,
        version: Version = "v2",
        drop_path: float = 0.0,
        grid: int | None = None,
    ) -> None:
        super().__init__()
        trained = dataclasses.replace(shape, grid=grid or shape.grid)
        self.version, self.classes = version, classes
        if version == "plus":
            self.backbone = SplitViT(trained, classes, drop_path, 1 + shape.grid**2)
        else:
            offset = FACTOR_OFFSET
            self.backbone = ViT(trained, classes, drop_path=drop_path, factor_offset=offset)
        self.backbone.norm.requires_grad_(False)  # part of published files, not applied
        self.head: nn.Module = nn.Conv2d(shape.width, classes, 3, padding=1)
        if version == "v1":
            self.head = nn.Linear(shape.width, classes).requires_grad_(False)  # likewise

    @classmethod
    def of(cls, params: ClassifierParams, classes: int, version: Version, drop_path: float) -> Self:
        """Return the network whose position table has a cell for each patch of a training crop."""
        shape = transformer(params.backbone)
        grid = params.augment.crop_px // shape.patch
        return cls(shape, classes, version, drop_path, grid)

    def forward(self, images: Tensor) -> Tensor:
        """Return the classification scores (B, C) of images (B, 3, H, W)."""
        encoded = self.encode(images)
        if self.version != "plus":
            return encoded.class_logits
        return (encoded.class_logits + self.patch_logits(encoded)) / 2

    def encode(
        self,
        images: Tensor,
        attention: AttentionKind = "none",
        keep: Collection[int] = (),
        change: Mapping[int, Change] | None = None,
    ) -> Encoded:
        """Send images (B, 3, H, W) through the network; `ViT.run` explains the other arguments."""
        tokens, grid = self.backbone.embed(images)
        run = self.backbone.run(tokens, attention, keep, change)
        patches = self.backbone.as_map(run.tokens, grid)
        scores = patches.new_zeros(len(images), self.classes, *grid)
        if self.version != "v1":
            scores = self.head(patches)
        return Encoded(run.tokens[:, : self.classes], scores, run.attention, run.block_tokens)

    def patch_logits(self, encoded: Encoded) -> Tensor:
        """Return the patches' scores, pooled to one score for each class (B, C)."""
        scores = encoded.scores.flatten(2)
        if self.version != "plus":
            return scores.mean(2)
        ranks = torch.arange(scores.shape[2], device=scores.device, dtype=scores.dtype)
        weights = RANK_DECAY**ranks
        return (scores.sort(2, descending=True).values * weights).sum(2) / weights.sum()

    def maps(self, encoded: Encoded, blocks: int, mean: bool, kind: MapKind = "fused") -> Tensor:
        """Return the non-negative class maps (B, C, h, w), before they are spread.

        blocks, mean: as for `Encoded.class_map`. V1 has the attention of class tokens alone.
        """
        if kind == "patches":
            return encoded.patch_map
        tokens = encoded.class_map(blocks, mean)
        if kind == "tokens" or self.version == "v1":
            return tokens
        fused = tokens * encoded.patch_map
        return fused.sqrt() if self.version == "plus" else fused


def token_contrast(tokens: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Return the loss that separates the class tokens of an image from each other (plus).

    tokens: class tokens after each block (B, C, D). labels: 0 or 1 (B, C); only present classes count.
    """
    targets = torch.arange(labels.shape[1], device=labels.device).expand(len(labels), -1)
    terms = []
    for block in tokens:
        unit = F.normalize(block, dim=2)
        alike = torch.einsum("bcd,bed->bec", unit, unit)  # classes second, as cross_entropy wants
        terms.append(F.cross_entropy(alike, targets, reduction="none"))
    present = (torch.stack(terms).mean(0) * labels).sum(1)
    return (present / (labels.sum(1) + 1e-8)).mean()


# The authors' files of MCTformer (all versions) and of PCSS: a ViT and `head` on one level.
PUBLISHED = Layout(((r"^(?!head\.)", "backbone."),))
