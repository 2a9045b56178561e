"""PCSformer (Liu et al.): a Conformer that learns a crop at two sizes, then clusters of each class.

PC learns the labels from both sizes. Its features, clustered within each class, give sub-labels. SP
learns labels and sub-labels, from the start. TransCAM (Li et al.) is PC with one size.

Differences: the published SP learns the sub-labels of other images (`order: upstream`), as its rows
were stored by class and read by image; `aligned` is the default. What the published PC normalises over
two images of a device are all that a process sees here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.data.workers import Batch
from wsss.errors import ConfigError
from wsss.methods.base import Method, Source
from wsss.methods.pcsformer.image_clusters import class_major, cluster_classes
from wsss.methods.pcsformer.network import CONFORMER_LAYOUT, ConformerNet
from wsss.storage.checkpoint import Layout

BATCH = 32  # images that features are taken of together


class PCSformer(Method):
    """Pair-wise cross-scale learning (PC), sub-prototypes, and their learning (SP)."""

    def build(self, network: str) -> ConformerNet:
        """Return the network of PC or SP."""
        params = self.params[network]
        clusters = self.classes * self._clusters if "cluster_weight" in params.settings else 0
        return ConformerNet.of(params, self.classes, clusters)

    @property
    def _clusters(self) -> int:
        count: int = self.params["subprototypes"].settings["clusters"]
        return count

    def layout(self, network: str) -> Layout:
        """Return the layout of the authors' files."""
        return CONFORMER_LAYOUT

    def losses(
        self, network: str, nets: Mapping[str, nn.Module], batch: Batch, step: int
    ) -> dict[str, Tensor]:
        """Return the losses of labels and of sub-labels, each a mean over the sizes of the crop."""
        net, settings = cast("ConformerNet", nets[network]), self.params[network].settings
        targets = None
        if "cluster_weight" in settings:
            targets = self.sub_labels(nets["subprototypes"], batch)
        seen = views(batch["image"], settings["second_view_px"])
        terms: dict[str, Tensor] = {}
        for name, images in seen.items():
            sight = net.look(images)
            loss = F.multilabel_soft_margin_loss(net.scores(sight), batch["label"])
            terms[name] = loss / len(seen)
            if targets is not None:
                loss = F.multilabel_soft_margin_loss(net.cluster_scores(sight), targets)
                terms[f"{name}_clusters"] = settings["cluster_weight"] * loss / len(seen)
        return terms

    def sub_labels(self, found: nn.Module, batch: Batch) -> Tensor:
        """Return which clusters the images of a batch are in (B, classes * clusters)."""
        clusters = cast("Tensor", found.clusters)[batch["number"]]
        numbers = torch.arange(self._clusters, device=clusters.device)
        return (clusters[:, :, None] == numbers).flatten(1).to(batch["label"].dtype)

    def derive(
        self, network: str, nets: Mapping[str, nn.Module], images: Source
    ) -> dict[str, Tensor]:
        """Return the features of all images, or their clusters in each of their classes."""
        if network == "features":
            return self._features(cast("ConformerNet", nets["pc"]), images)
        if network == "subprototypes":
            return self._subprototypes(nets["features"])
        raise ConfigError(f"PCSformer derives features and subprototypes, not {network}.")

    def _features(self, net: ConformerNet, images: Source) -> dict[str, Tensor]:
        side = self.params["features"].settings["side_px"]
        features, present = [], []
        for batch in images(side, BATCH):
            features.append(net.features(batch["image"]).float().cpu())
            present.append(batch["label"].cpu().to(torch.uint8))
        return {"features": torch.cat(features), "present": torch.cat(present)}

    def _subprototypes(self, found: nn.Module) -> dict[str, Tensor]:
        settings = self.params["subprototypes"].settings
        features = cast("Tensor", found.features).cpu().numpy()
        present = cast("Tensor", found.present).cpu().numpy()
        seed, starts = settings["seed"], settings["starts"]
        clusters = cluster_classes(features, present, settings["clusters"], seed, starts)
        return {"clusters": torch.from_numpy(in_order(clusters, present, settings["order"]))}

    def logits(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the sum of the scores of CNN and transformer."""
        return net(images)  # type: ignore[no-any-return]  # nn.Module call

    def evidence(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the CNN's scores, gathered by the transformer's attention."""
        return cast("ConformerNet", net).evidence(images)

    def cam(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the positive part of the evidence."""
        return F.relu(self.evidence(net, images))


def views(images: Tensor, second_view_px: int) -> dict[str, Tensor]:
    """Return crops (B, 3, h, w), and the same at the side `second_view_px` unless that is 0."""
    if not second_view_px:
        return {"labels": images}
    size = (second_view_px, second_view_px)
    small = F.interpolate(images, size, mode="bilinear", align_corners=False)
    return {"large": images, "small": small}


def in_order(
    clusters: np.ndarray[Any, Any], present: np.ndarray[Any, Any], order: str
) -> np.ndarray[Any, Any]:
    """Return clusters (N, C) by image; upstream: by class, so that images get those of others.

    Raises:
        ConfigError: there is no such order.
    """
    if order not in ("aligned", "upstream"):
        raise ConfigError(f"settings.order: {order!r} is not one of aligned, upstream.")
    return clusters if order == "aligned" else clusters[class_major(present)]


METHOD = PCSformer
