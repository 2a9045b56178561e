"""PCSformer (Liu et al., 2024): a Conformer that learns crops at two sizes, then class clusters.

PC learns the labels from two views of each crop. Its features, clustered within each class, give
sub-labels. SP, which is trained from the initial weights again, learns labels and sub-labels. TransCAM
(Li et al., 2023) is PC with one view.

Differences: the published SP learns the sub-labels of other images (`order: upstream`), because its
rows were stored by class and read by image; `aligned` is the default. BatchNorm uses all images of a
process, the published PC two images of a device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from wsss.data.workers import Batch
from wsss.errors import ConfigError
from wsss.methods.base import Method, Source
from wsss.methods.pcsformer.image_clusters import class_major, cluster_classes
from wsss.methods.pcsformer.network import CONFORMER_LAYOUT, ConformerNet, MapKind
from wsss.storage.checkpoint import Layout

BATCH = 32  # images in a forward pass that computes features
Order = Literal["aligned", "upstream"]


class PCHyperParameters(Protocol):
    """The hyper-parameters of the network PC; pcsformer.yaml explains them."""

    second_view_px: int
    maps: MapKind


class SPHyperParameters(PCHyperParameters, Protocol):
    """The hyper-parameters of the network SP; pcsformer.yaml explains them."""

    cluster_weight: float


class FeaturesHyperParameters(Protocol):
    """The hyper-parameters of the computed features; pcsformer.yaml explains them."""

    side_px: int


class SubprototypesHyperParameters(Protocol):
    """The hyper-parameters of the clusters; pcsformer.yaml explains them."""

    clusters: int
    seed: int
    starts: int
    order: Order


class PCSformer(Method):
    """Pair-wise cross-scale learning (PC), sub-prototypes, and their learning (SP)."""

    hyper_parameter_types = {
        "pc": PCHyperParameters,
        "features": FeaturesHyperParameters,
        "subprototypes": SubprototypesHyperParameters,
        "sp": SPHyperParameters,
    }

    def build(self, network: str) -> ConformerNet:
        """Return the network of PC or SP."""
        maps = self._trained(network).maps
        clusters = self.classes * self._clustering.clusters if network == "sp" else 0
        return ConformerNet.of(self.params[network], self.classes, clusters, maps)

    def _trained(self, network: str) -> PCHyperParameters:
        return cast("PCHyperParameters", self.params[network].hyper_parameters)

    @property
    def _clustering(self) -> SubprototypesHyperParameters:
        params = self.params["subprototypes"]
        return cast("SubprototypesHyperParameters", params.hyper_parameters)

    @property
    def _cluster_weight(self) -> float:
        return cast("SPHyperParameters", self.params["sp"].hyper_parameters).cluster_weight

    def layout(self, network: str) -> Layout:
        """Return the layout of the authors' files."""
        return CONFORMER_LAYOUT

    def losses(
        self, network: str, nets: Mapping[str, nn.Module], batch: Batch, step: int
    ) -> dict[str, Tensor]:
        """Return the losses of labels and of sub-labels, each a mean over the views of a crop."""
        net = cast("ConformerNet", nets[network])
        targets = self.sub_labels(nets["subprototypes"], batch) if network == "sp" else None
        crops = views(batch["image"], self._trained(network).second_view_px)
        terms: dict[str, Tensor] = {}
        for name, images in crops.items():
            encoded = net.encode(images)
            loss = F.multilabel_soft_margin_loss(net.scores(encoded), batch["label"])
            terms[name] = loss / len(crops)
            if targets is not None:
                loss = F.multilabel_soft_margin_loss(net.cluster_scores(encoded), targets)
                terms[f"{name}_clusters"] = self._cluster_weight * loss / len(crops)
        return terms

    def sub_labels(self, subprototypes: nn.Module, batch: Batch) -> Tensor:
        """Return 1 for each cluster that an image of a batch is in, else 0 (B, classes * clusters)."""
        clusters = cast("Tensor", subprototypes.clusters)[batch["number"]]
        numbers = torch.arange(self._clustering.clusters, device=clusters.device)
        return (clusters[:, :, None] == numbers).flatten(1).to(batch["label"].dtype)

    def compute(
        self, network: str, nets: Mapping[str, nn.Module], images: Source
    ) -> dict[str, Tensor]:
        """Return the features of all images, or the cluster of each image in each of its classes."""
        if network == "features":
            return self._features(cast("ConformerNet", nets["pc"]), images)
        if network == "subprototypes":
            return self._subprototypes(nets["features"])
        raise ConfigError(f"PCSformer computes features and subprototypes, not {network}.")

    def _features(self, net: ConformerNet, images: Source) -> dict[str, Tensor]:
        params = self.params["features"]
        side = cast("FeaturesHyperParameters", params.hyper_parameters).side_px
        features, present = [], []
        for batch in images(side, BATCH):
            features.append(net.features(batch["image"]).float().cpu())
            present.append(batch["label"].cpu().to(torch.uint8))
        return {"features": torch.cat(features), "present": torch.cat(present)}

    def _subprototypes(self, computed: nn.Module) -> dict[str, Tensor]:
        settings = self._clustering
        features = cast("Tensor", computed.features).cpu().numpy()
        present = cast("Tensor", computed.present).cpu().numpy()
        clusters = cluster_classes(
            features, present, settings.clusters, settings.seed, settings.starts
        )
        return {"clusters": torch.from_numpy(in_order(clusters, present, settings.order))}

    def logits(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the sum of the scores of CNN and transformer (B, classes)."""
        return net(images)  # type: ignore[no-any-return]  # nn.Module call

    def signed_cam(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the CNN's scores (B, classes, h, w), gathered by the transformer's attention."""
        return cast("ConformerNet", net).signed_cam(images)

    def cam(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the positive part of the signed CAM."""
        return F.relu(self.signed_cam(net, images))


def views(images: Tensor, second_view_px: int) -> dict[str, Tensor]:
    """Return crops (B, 3, h, w) and, unless `second_view_px` is 0, the crops at that side."""
    if not second_view_px:
        return {"labels": images}
    size = (second_view_px, second_view_px)
    small = F.interpolate(images, size, mode="bilinear", align_corners=False)
    return {"large": images, "small": small}


def in_order(
    clusters: NDArray[np.int16], present: NDArray[np.uint8], order: Order
) -> NDArray[np.int16]:
    """Return clusters (N, C) by image; `upstream` sorts rows by class, so that images get others' rows.

    present: 0 and 1 (N, C).
    """
    return clusters if order == "aligned" else clusters[class_major(present)]


METHOD = PCSformer
