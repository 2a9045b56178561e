"""A transformer with a class token per class (MCTformer, Xu et al., CVPR 2022), and its maps.

V1 has class tokens alone; V2 scores patches as well; plus (2023) has position tables of their own for
class tokens and patches, and pools the patches' scores by rank. PCSS trains V2's network.
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
from wsss.nets.vit import Change, Keep, Shape, ViT, resize_table, transformer
from wsss.settings import ClassifierParams
from wsss.storage.checkpoint import Layout

Version = Literal["v1", "v2", "plus"]
MapKind = Literal["fused", "patches", "tokens"]
RANK_DECAY = 0.996  # of the weights of plus's pooling
FACTOR_OFFSET = 0.1  # cells added to the grid when the position table is resized; plus has 0


class SplitViT(ViT):
    """A ViT whose class tokens and patches have position tables of their own.

    The table of the source stays, unused, as in the published files.
    """

    def __init__(self, shape: Shape, class_tokens: int, drop_path: float, source: int) -> None:
        super().__init__(shape, class_tokens, drop_path=drop_path, factor_offset=0.0)
        positions = self.pos_embed.detach()
        self.pos_embed_cls = nn.Parameter(positions[:, :class_tokens].clone())
        self.pos_embed_pat = nn.Parameter(positions[:, class_tokens:].clone())
        self.pos_embed = nn.Parameter(torch.zeros(1, source, shape.width), requires_grad=False)

    def positions(self, grid: tuple[int, int], square: bool) -> Tensor:
        """Return both tables in one (1, classes + h * w, D), that of the patches for a grid (h, w)."""
        return torch.cat([self.pos_embed_cls, resize_table(self.pos_embed_pat, grid, 0.0)], 1)

    def adapt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return initial weights of one class token; each position serves the nearest patches."""
        found = dict(state)
        table, side = found["pos_embed"], self.shape.grid
        small = int((table.shape[1] - 1) ** 0.5)
        cells = table[:, 1:].transpose(1, 2).reshape(1, -1, small, small)
        found["pos_embed_pat"] = F.interpolate(cells, (side, side)).flatten(2).transpose(1, 2)
        found["pos_embed_cls"] = table[:, :1].expand(-1, self.class_tokens, -1)
        found["cls_token"] = found["cls_token"].expand(-1, self.class_tokens, -1)
        return found


@dataclass
class Look:
    """What a pass through the network saw.

    tokens: class tokens (B, C, D). scores: of the patches (B, C, h, w). attention: per block, mean over
    heads (B, N, N). kept: all tokens after the blocks asked for, by block.
    """

    tokens: Tensor
    scores: Tensor
    attention: list[Tensor]
    kept: dict[int, Tensor]

    @property
    def class_logits(self) -> Tensor:
        """The mean of each class token (B, C)."""
        return self.tokens.mean(2)

    @property
    def patch_map(self) -> Tensor:
        """The positive part of the patches' scores (B, C, h, w)."""
        return F.relu(self.scores)

    def class_map(self, blocks: int, mean: bool) -> Tensor:
        """Return the attention of class tokens to patches (B, C, h, w) over the last blocks.

        blocks: how many, 0 is all. mean: instead of the sum.
        """
        count = self.scores.shape[1]
        chosen = [weights[:, :count, count:] for weights in self.attention[-blocks:]]
        total = torch.stack(chosen).sum(0)
        return (total / len(chosen) if mean else total).reshape(self.scores.shape)

    def spread(self, maps: Tensor) -> Tensor:
        """Return maps (B, C, h, w) where each patch has what it attends to, summed over all blocks."""
        count = self.scores.shape[1]
        affinity = sum(weights[:, count:, count:] for weights in self.attention)
        spread = torch.einsum("bij,bcj->bci", affinity, maps.flatten(2))
        return spread.reshape(maps.shape)


class MCTformer(Network):
    """Class tokens and patches of one transformer, and a score of every patch for every class.

    shape: that of the initial weights. grid: cells on a side of the position table, if others.
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
        self.backbone.norm.requires_grad_(False)  # published files have it, no result depends on it
        self.head: nn.Module = nn.Conv2d(shape.width, classes, 3, padding=1)
        if version == "v1":
            self.head = nn.Linear(shape.width, classes).requires_grad_(False)  # unused as well

    @classmethod
    def of(cls, params: ClassifierParams, classes: int, version: Version) -> Self:
        """Return the network whose position table has a cell for each patch of a training crop."""
        shape = transformer(params.backbone)
        grid = params.augment.crop_px // shape.patch
        return cls(shape, classes, version, params.settings["drop_path"], grid)

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores (B, C) that labels are predicted with."""
        seen = self.look(images)
        if self.version != "plus":
            return seen.class_logits
        return (seen.class_logits + self.patch_logits(seen)) / 2

    def look(
        self,
        images: Tensor,
        attention: Keep = "none",
        keep: Collection[int] = (),
        change: Mapping[int, Change] | None = None,
    ) -> Look:
        """Return what the network sees; the arguments are those of `ViT.run`."""
        tokens, grid = self.backbone.embed(images)
        seen = self.backbone.run(tokens, attention, keep, change)
        patches = self.backbone.as_map(seen.tokens, grid)
        scores = patches.new_zeros(len(images), self.classes, *grid)
        if self.version != "v1":
            scores = self.head(patches)
        return Look(seen.tokens[:, : self.classes], scores, seen.attention, seen.kept)

    def patch_logits(self, seen: Look) -> Tensor:
        """Return the scores of the patches as one for each class (B, C)."""
        scores = seen.scores.flatten(2)
        if self.version != "plus":
            return scores.mean(2)
        ranks = torch.arange(scores.shape[2], device=scores.device, dtype=scores.dtype)
        weights = RANK_DECAY**ranks
        return (scores.sort(2, descending=True).values * weights).sum(2) / weights.sum()

    def maps(self, seen: Look, blocks: int, mean: bool, kind: MapKind = "fused") -> Tensor:
        """Return the class maps (B, C, h, w), before they are spread.

        blocks, mean: as for `Look.class_map`. V1 has the attention of class tokens alone.
        """
        if kind == "patches":
            return seen.patch_map
        tokens = seen.class_map(blocks, mean)
        if kind == "tokens" or self.version == "v1":
            return tokens
        fused = tokens * seen.patch_map
        return fused.sqrt() if self.version == "plus" else fused


def token_contrast(tokens: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Return how much the class tokens of an image are alike, by class (plus's loss).

    tokens: of each block (B, C, D). labels: 0 or 1 (B, C); only present classes count.
    """
    targets = torch.arange(labels.shape[1], device=labels.device).expand(len(labels), -1)
    terms = []
    for block in tokens:
        unit = F.normalize(block, dim=2)
        alike = torch.einsum("bcd,bed->bec", unit, unit)  # classes second, as cross_entropy wants
        terms.append(F.cross_entropy(alike, targets, reduction="none"))
    present = (torch.stack(terms).mean(0) * labels).sum(1)
    return (present / (labels.sum(1) + 1e-8)).mean()


# The authors' files, of MCTformer (all versions) and of PCSS: a ViT with `head` beside its layers.
PUBLISHED = Layout(((r"^(?!head\.)", "backbone."),))
