"""CRT for the localization of one object (Huo, Su and Wu, arXiv 2209.15211, Sec. on CUB), and TS-CAM.

The transformer sees a square image whole and once. TS-CAM (Gao et al., ICCV 2021) is the same without
the CNN beside it, from which CRT's transformer learns in every second span of epochs.

Differences: the published program keeps the epoch that localizes the test images best; here it is
the last one, which localizes worse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from wsss.data.workers import Batch
from wsss.methods.base import Method, Source
from wsss.methods.crt.method import apart
from wsss.methods.crt.network import TRANSFORMER, CRTNet, Encoding, build
from wsss.nets.vit import transformer
from wsss.storage.checkpoint import Layout


def is_apart(epochs_done: int, span: int) -> bool:
    """Return whether the maps are not drawn together in the epoch after `epochs_done`.

    They are from epoch `span` (from 1) on for as many epochs, and so in every second span.
    """
    return (epochs_done + 1) // span % 2 == 0


class Localization(Method):
    """A transformer that learns the class of an image, and a CNN beside it if there is one."""

    def build(self, network: str) -> CRTNet:
        """Return the transformer, and the CNN in one network with it."""
        params = self.params[network]
        encoding = Encoding(passes=1, tile_px=0, drop_path=params.settings["drop_path"])
        return build(transformer(params.backbone), self.classes, encoding, params.auxiliary_cnn)

    def layout(self, network: str) -> Layout:
        """Return the layout of CRT's published transformer, which is TS-CAM's."""
        return TRANSFORMER

    def losses(
        self, network: str, nets: Mapping[str, nn.Module], batch: Batch, step: int
    ) -> dict[str, Tensor]:
        """Return the losses of the networks and, in some epochs, how far apart their maps are.

        batch: label has one class in each row.
        """
        net, images, classes = (
            cast("CRTNet", nets[network]),
            batch["image"],
            batch["label"].argmax(1),
        )
        settings, maps = self.params[network].settings, net.maps(images)
        terms = {"transformer": F.cross_entropy(maps.mean((2, 3)), classes)}
        if net.auxiliary_cnn is None:
            return terms
        beside = net.partner_maps(images)
        terms["auxiliary_cnn"] = F.cross_entropy(beside.mean((2, 3)), classes)
        if not is_apart(int(net.epochs_done), settings["span"]):
            size = (maps.shape[2], maps.shape[3])
            terms["consistency"] = settings["consistency"] * apart(beside, maps, size)
        return terms

    def after_epoch(
        self, network: str, nets: Mapping[str, nn.Module], epoch: int, images: Source
    ) -> None:
        """Count the epochs."""
        cast("CRTNet", nets[network]).epochs_done.fill_(epoch + 1)

    def logits(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the transformer's scores."""
        return net(images)  # type: ignore[no-any-return]  # nn.Module call

    def cam(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the positive part of the transformer's maps, times its attention if that counts."""
        found = cast("CRTNet", net)
        counts = self.params["classifier"].settings["attention"]
        return F.relu(found.attended(images) if counts else found.maps(images))


METHOD = Localization
