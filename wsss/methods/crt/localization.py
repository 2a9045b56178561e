"""CRT for the localization of one object (Huo, Su and Wu, arXiv 2209.15211, on CUB), and TS-CAM.

The transformer encodes a whole square image in one pass. TS-CAM (Gao et al., ICCV 2021) has no
auxiliary CNN; CRT's transformer learns from its CNN in every second span of epochs.

Differences: the published program keeps the epoch that localizes the test images best; here the last
epoch is kept, which localizes worse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

import torch.nn.functional as F
from torch import Tensor, nn

from wsss.data.workers import Batch
from wsss.methods.crt.method import TransformerBesideCNN, mean_distance
from wsss.methods.crt.network import TRANSFORMER, CRTNet, Encoding, build
from wsss.nets.vit import transformer
from wsss.storage.checkpoint import Layout


class ClassifierHyperParameters(Protocol):
    """The hyper-parameters of both networks; crt_localization.yaml explains them."""

    drop_path: float
    span: int
    consistency: float
    attention: bool


def is_apart(epochs_done: int, span: int) -> bool:
    """Return whether the epoch after `epochs_done` has no consistency loss.

    The loss counts in the `span` epochs from epoch `span` (from 1) on, and in every second span.
    """
    return (epochs_done + 1) // span % 2 == 0


class Localization(TransformerBesideCNN):
    """A transformer that learns the class of an image, and an auxiliary CNN if there is one."""

    hyper_parameter_types = {"classifier": ClassifierHyperParameters}

    def _hyper_parameters(self, network: str) -> ClassifierHyperParameters:
        return cast("ClassifierHyperParameters", self.params[network].hyper_parameters)

    def build(self, network: str) -> CRTNet:
        """Return the transformer and the CNN in one network."""
        params, drop_path = self.params[network], self._hyper_parameters(network).drop_path
        encoding = Encoding(passes=1, tile_px=0, drop_path=drop_path)
        return build(transformer(params.backbone), self.classes, encoding, params.auxiliary_cnn)

    def layout(self, network: str) -> Layout:
        """Return the layout of the published transformers of CRT and TS-CAM."""
        return TRANSFORMER

    def losses(
        self, network: str, nets: Mapping[str, nn.Module], batch: Batch, step: int
    ) -> dict[str, Tensor]:
        """Return the class losses of the networks and, in every second span, the consistency.

        batch: each row of label has one class.
        """
        net, images = cast("CRTNet", nets[network]), batch["image"]
        classes = batch["label"].argmax(1)
        hyper_parameters, maps = self._hyper_parameters(network), net.maps(images)
        terms = {"transformer": F.cross_entropy(maps.mean((2, 3)), classes)}
        if net.auxiliary_cnn is None:
            return terms
        cnn_maps = net.auxiliary_maps(images)
        terms["auxiliary_cnn"] = F.cross_entropy(cnn_maps.mean((2, 3)), classes)
        if not is_apart(int(net.epochs_done), hyper_parameters.span):
            size = (maps.shape[2], maps.shape[3])
            distance = mean_distance(cnn_maps, maps, size)
            terms["consistency"] = hyper_parameters.consistency * distance
        return terms

    def cam(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the positive part of the transformer's maps (B, classes, h, w).

        The maps are multiplied by the class token's attention if `attention` is set.
        """
        transformer_net = cast("CRTNet", net)
        attend = self._hyper_parameters("classifier").attention
        return F.relu(transformer_net.attended(images) if attend else transformer_net.maps(images))


METHOD = Localization
