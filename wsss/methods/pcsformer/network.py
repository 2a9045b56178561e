"""The classifier of TransCAM and PCSformer: heads on both branches of a Conformer, and its maps."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.errors import ConfigError
from wsss.nets.backbone import Network
from wsss.nets.conformer import PUBLISHED, Conformed, Conformer, Sight, conformer_of
from wsss.nets.vit import initialise
from wsss.settings import ClassifierParams
from wsss.storage.checkpoint import Layout

MapKind = Literal["transcam", "attnagg", "clsattn", "convcam"]


class ConformerNet(Network):
    """A score per class from the mean of a map and from the class token, and so for clusters.

    classes: without background; the heads have it in front, untrained, as the published files do.
    clusters: of all classes; 0 is none. kind: of the maps that become CAMs.
    """

    backbone: Conformer

    def __init__(
        self,
        shape: Conformed,
        classes: int,
        clusters: int = 0,
        kind: MapKind = "transcam",
    ) -> None:
        super().__init__()
        self._kind = kind
        self.backbone = Conformer(shape)
        channels, width = self.backbone.channels[-1], shape.width
        self.conv_head = nn.Conv2d(channels, classes + 1, 3, padding=1)
        self.token_head = nn.Linear(width, classes + 1)
        if clusters:
            self.conv_clusters = nn.Conv2d(channels, clusters, 3, padding=1)
            self.token_clusters = nn.Linear(width, clusters)
        for head in [layer for name, layer in self.named_children() if name != "backbone"]:
            initialise(head)
            if isinstance(head, nn.Conv2d):
                nn.init.kaiming_normal_(head.weight, mode="fan_out", nonlinearity="relu")

    @classmethod
    def of(cls, params: ClassifierParams, classes: int, clusters: int = 0) -> ConformerNet:
        """Return the network that the settings describe.

        Raises:
            ConfigError: the backbone is no Conformer.
        """
        if shape := conformer_of(params.backbone):
            return cls(shape, classes, clusters, params.settings["maps"])
        raise ConfigError(
            f"{params.backbone} is no Conformer, and this method needs one: set backbone to "
            "conformer_small_patch16, or to conformer_toy on small data."
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return scores (B, classes)."""
        return self.scores(self.look(images))

    def look(self, images: Tensor, attention: bool = False) -> Sight:
        """Return what the backbone sees of images (B, 3, H, W), stretched to whole tokens."""
        cell = self.backbone.shape.stride
        size = [side + -side % cell for side in images.shape[2:]]
        if size != list(images.shape[2:]):
            images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        return self.backbone.look(images, attention)

    def class_token(self, seen: Sight) -> Tensor:
        """Return the class token after the last LayerNorm (B, D)."""
        return self.backbone.trans_norm(seen.tokens[:, 0])  # type: ignore[no-any-return]  # nn.Module call

    def branches(self, seen: Sight) -> tuple[Tensor, Tensor]:
        """Return the scores of CNN and transformer (B, 1 + classes), background first."""
        return self.conv_head(seen.maps).mean((2, 3)), self.token_head(self.class_token(seen))

    def cluster_branches(self, seen: Sight) -> tuple[Tensor, Tensor]:
        """Return the scores of CNN and transformer for clusters (B, clusters)."""
        token = self.token_clusters(self.class_token(seen))
        return self.conv_clusters(seen.maps).mean((2, 3)), token

    def scores(self, seen: Sight) -> Tensor:
        """Return the sum of both branches (B, classes)."""
        conv, token = self.branches(seen)
        return conv[:, 1:] + token[:, 1:]

    def cluster_scores(self, seen: Sight) -> Tensor:
        """Return the sum of both branches for clusters (B, clusters)."""
        conv, token = self.cluster_branches(seen)
        return conv + token

    def features(self, images: Tensor) -> Tensor:
        """Return the mean over space of the CNN's last features (B, C)."""
        return self.look(images).maps.mean((2, 3))

    def evidence(self, images: Tensor) -> Tensor:
        """Return the maps (B, classes, h, w) that become CAMs, with negative scores."""
        return self.maps(self.look(images, self._kind != "convcam"), self._kind)[:, 1:]

    def maps(self, seen: Sight, kind: MapKind = "transcam") -> Tensor:
        """Return the maps (B, 1 + classes, h, w), background first, which may be negative.

        kind: transcam: patches gather the CNN's scores from where they attend to; attnagg: from where
        they are attended by; clsattn: scores times the class token's attention; convcam: as they are.
        """
        scores = self.conv_head(seen.maps)
        if kind == "convcam":
            return scores  # type: ignore[no-any-return]  # nn.Module call
        if seen.attention is None:
            raise ValueError(f"maps of kind {kind} need the attention: look with it")
        flat = scores.flatten(2)
        if kind == "clsattn":
            found = flat * seen.attention[:, :1, 1:]
        else:
            order = "bqk,bck->bcq" if kind == "transcam" else "bkq,bck->bcq"
            found = torch.einsum(order, seen.attention[:, 1:, 1:], flat)
        return found.reshape(scores.shape)  # type: ignore[no-any-return]  # of a Tensor


# The authors' files of every stage: PC, and SP, which has heads for 10 clusters of each of 20 classes.
CONFORMER_LAYOUT = Layout(
    (
        (r"^trans_cls_head_\d+\.", "token_clusters."),
        (r"^conv_cls_head_\d+\.", "conv_clusters."),
        (r"^trans_cls_head\.", "token_head."),
        (r"^conv_cls_head\.", "conv_head."),
        (r"^(?!(?:token|conv)_(?:clusters|head)\.)", "backbone."),
        *(
            (pattern.replace("^", r"^backbone\."), f"backbone.{new}")
            for pattern, new in PUBLISHED.table
        ),
    )
)
