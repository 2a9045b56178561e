"""The classifier of TransCAM and PCSformer: heads on both branches of a Conformer, and class maps."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.errors import ConfigError
from wsss.nets.backbone import Network
from wsss.nets.conformer import (
    PUBLISHED,
    Conformer,
    ConformerFeatures,
    ConformerShape,
    conformer_of,
)
from wsss.nets.vit import initialise
from wsss.settings import ClassifierParams
from wsss.storage.checkpoint import Layout

MapKind = Literal["transcam", "attnagg", "clsattn", "convcam"]


class ConformerNet(Network):
    """A score per class, and per cluster, from the mean of a CNN map and from the class token.

    classes: without background; as in the published files, the heads have an untrained background
    score in front. clusters: of all classes together; 0 is none. kind: of the maps that become CAMs.
    """

    backbone: Conformer

    def __init__(
        self,
        shape: ConformerShape,
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
    def of(
        cls, params: ClassifierParams, classes: int, clusters: int, kind: MapKind
    ) -> ConformerNet:
        """Return the network on the backbone of `params`.

        Raises:
            ConfigError: the backbone is not a Conformer.
        """
        if shape := conformer_of(params.backbone):
            return cls(shape, classes, clusters, kind)
        raise ConfigError(
            f"{params.backbone} is not a Conformer, and this method needs one: set backbone to "
            "conformer_small_patch16, or to conformer_toy on small data."
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return scores (B, classes)."""
        return self.scores(self.encode(images))

    def encode(self, images: Tensor, attention: bool = False) -> ConformerFeatures:
        """Send images (B, 3, H, W), resized up to whole tokens, through the backbone."""
        cell = self.backbone.shape.stride
        size = [side + -side % cell for side in images.shape[2:]]
        if size != list(images.shape[2:]):
            images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        return self.backbone.encode(images, attention)

    def class_token(self, encoded: ConformerFeatures) -> Tensor:
        """Return the class token after the last LayerNorm (B, D)."""
        return self.backbone.trans_norm(encoded.tokens[:, 0])  # type: ignore[no-any-return]  # nn.Module call

    def branches(self, encoded: ConformerFeatures) -> tuple[Tensor, Tensor]:
        """Return the scores of CNN and transformer (B, 1 + classes), background first."""
        token = self.token_head(self.class_token(encoded))
        return self.conv_head(encoded.maps).mean((2, 3)), token

    def cluster_branches(self, encoded: ConformerFeatures) -> tuple[Tensor, Tensor]:
        """Return the scores of CNN and transformer for clusters (B, clusters)."""
        token = self.token_clusters(self.class_token(encoded))
        return self.conv_clusters(encoded.maps).mean((2, 3)), token

    def scores(self, encoded: ConformerFeatures) -> Tensor:
        """Return the sum of both branches (B, classes)."""
        conv, token = self.branches(encoded)
        return conv[:, 1:] + token[:, 1:]

    def cluster_scores(self, encoded: ConformerFeatures) -> Tensor:
        """Return the sum of both branches for clusters (B, clusters)."""
        conv, token = self.cluster_branches(encoded)
        return conv + token

    def features(self, images: Tensor) -> Tensor:
        """Return the mean over space of the CNN's last features (B, C)."""
        return self.encode(images).maps.mean((2, 3))

    def signed_cam(self, images: Tensor) -> Tensor:
        """Return the signed maps (B, classes, h, w) that become CAMs."""
        return self.maps(self.encode(images, self._kind != "convcam"), self._kind)[:, 1:]

    def maps(self, encoded: ConformerFeatures, kind: MapKind = "transcam") -> Tensor:
        """Return signed maps (B, 1 + classes, h, w), background first.

        kind: transcam gathers the CNN's scores from the patches that a patch attends to; attnagg from
        the patches that attend to it; clsattn multiplies the scores by the class token's attention;
        convcam leaves them unchanged.
        """
        scores = self.conv_head(encoded.maps)
        if kind == "convcam":
            return scores  # type: ignore[no-any-return]  # nn.Module call
        if encoded.attention is None:
            raise ValueError(f"maps of kind {kind} need the attention: encode with attention=True")
        flat = scores.flatten(2)
        if kind == "clsattn":
            maps = flat * encoded.attention[:, :1, 1:]
        else:
            order = "bqk,bck->bcq" if kind == "transcam" else "bkq,bck->bcq"
            maps = torch.einsum(order, encoded.attention[:, 1:, 1:], flat)
        return maps.reshape(scores.shape)  # type: ignore[no-any-return]  # of a Tensor


# The authors' files of PC and of SP, which has heads for 10 clusters of each of 20 classes.
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
