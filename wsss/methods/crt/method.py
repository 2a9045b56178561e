"""CRT (Huo, Su and Wu, arXiv 2209.15211): a transformer learns beside a CNN, whose maps are local.

From the second epoch on, a consistency loss brings the class maps of both together. The CAMs are the
transformer's.

Differences: the published program validates the CNN alone, here the transformer is validated; the
published program sets no seed; the crop, which is always 336 px there, is a setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

import torch.nn.functional as F
from torch import Tensor, nn

from wsss.data.workers import Batch
from wsss.errors import ConfigError
from wsss.methods.base import Method, Source
from wsss.methods.crt.network import TRANSFORMER, CRTNet, Encoding, build
from wsss.nets.vit import transformer
from wsss.storage.checkpoint import Layout


class ClassifierHyperParameters(Protocol):
    """The hyper-parameters of both networks; crt.yaml explains them."""

    passes: int
    tile_px: int
    apart_epochs: int
    consistency: float


def mean_distance(first: Tensor, second: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the mean absolute difference of two maps (B, C, h, w) after resizing both to `size`."""
    first, second = (
        F.interpolate(maps.float(), size, mode="bilinear", align_corners=True)
        for maps in (first, second)
    )
    return (first - second).abs().mean()


class TransformerBesideCNN(Method):
    """What CRT and its localization share: the transformer's scores, and the count of epochs."""

    def after_epoch(
        self, network: str, nets: Mapping[str, nn.Module], epoch: int, images: Source
    ) -> None:
        """Count the finished epochs in the network's state."""
        cast("CRTNet", nets[network]).epochs_done.fill_(epoch + 1)

    def logits(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the transformer's scores (B, classes)."""
        return net(images)  # type: ignore[no-any-return]  # nn.Module call


class CRT(TransformerBesideCNN):
    """A transformer over tiles, whose tokens pass several times through its blocks, and a CNN."""

    hyper_parameter_types = {"classifier": ClassifierHyperParameters}

    def _hyper_parameters(self, network: str) -> ClassifierHyperParameters:
        return cast("ClassifierHyperParameters", self.params[network].hyper_parameters)

    def build(self, network: str) -> CRTNet:
        """Return both networks in one."""
        params, hyper_parameters = self.params[network], self._hyper_parameters(network)
        encoding = Encoding(hyper_parameters.passes, hyper_parameters.tile_px)
        if params.auxiliary_cnn is None:
            raise ConfigError(
                f"networks.{network}.auxiliary_cnn: CRT's transformer learns from a CNN, which is missing. "
                "Set its backbone and stride."
            )
        return build(transformer(params.backbone), self.classes, encoding, params.auxiliary_cnn)

    def layout(self, network: str) -> Layout:
        """Return the layout of the published transformer; the CNN keeps its current weights."""
        return TRANSFORMER

    def losses(
        self, network: str, nets: Mapping[str, nn.Module], batch: Batch, step: int
    ) -> dict[str, Tensor]:
        """Return the label losses of both networks and, after the first epochs, the consistency."""
        net, images, labels = cast("CRTNet", nets[network]), batch["image"], batch["label"]
        maps, cnn_maps = net.maps(images), net.auxiliary_maps(images)
        terms = {
            "transformer": F.multilabel_soft_margin_loss(maps.mean((2, 3)), labels),
            "auxiliary_cnn": F.multilabel_soft_margin_loss(cnn_maps.mean((2, 3)), labels),
        }
        hyper_parameters = self._hyper_parameters(network)
        if int(net.epochs_done) >= hyper_parameters.apart_epochs:
            size = (images.shape[2], images.shape[3])
            distance = mean_distance(cnn_maps, maps, size)
            terms["consistency"] = hyper_parameters.consistency * distance
        return terms

    def cam(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the positive part of the transformer's maps times its attention (B, classes, h, w)."""
        return F.relu(cast("CRTNet", net).attended(images))


METHOD = CRT
