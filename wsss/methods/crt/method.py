"""CRT (Huo, Su and Wu, arXiv 2209.15211): a transformer learns beside a CNN, whose maps are local.

From the second epoch on the class maps of both are drawn together. The CAMs are the transformer's.

Differences: the published program validates the CNN alone, here the transformer is validated; it draws
no seed; the crop, which it sets to 336 whatever is asked for, is a setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from wsss.data.workers import Batch
from wsss.errors import ConfigError
from wsss.methods.base import Method, Source
from wsss.methods.crt.network import TRANSFORMER, CRTNet, Encoding, build
from wsss.nets.vit import transformer
from wsss.storage.checkpoint import Layout


def apart(first: Tensor, second: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the mean distance of maps (B, C, h, w), of any size each, at `size`."""
    large, other = (
        F.interpolate(maps.float(), size, mode="bilinear", align_corners=True)
        for maps in (first, second)
    )
    return (large - other).abs().mean()


class CRT(Method):
    """A transformer over tiles, three times through its blocks, and a CNN with the same labels."""

    def build(self, network: str) -> CRTNet:
        """Return both networks in one."""
        params = self.params[network]
        encoding = Encoding(params.settings["passes"], params.settings["tile_px"])
        if params.auxiliary_cnn is None:
            raise ConfigError(
                f"networks.{network}.auxiliary_cnn: CRT's transformer learns from a CNN, and there is none. "
                "Set its backbone and stride."
            )
        return build(transformer(params.backbone), self.classes, encoding, params.auxiliary_cnn)

    def layout(self, network: str) -> Layout:
        """Return the layout of the published transformer; the CNN keeps its weights."""
        return TRANSFORMER

    def losses(
        self, network: str, nets: Mapping[str, nn.Module], batch: Batch, step: int
    ) -> dict[str, Tensor]:
        """Return the losses of both networks and, after the first epochs, how far apart they are."""
        net, images, labels = cast("CRTNet", nets[network]), batch["image"], batch["label"]
        ours, theirs = net.maps(images), net.partner_maps(images)
        terms = {
            name: F.multilabel_soft_margin_loss(maps.mean((2, 3)), labels)
            for name, maps in (("transformer", ours), ("auxiliary_cnn", theirs))
        }
        settings = self.params[network].settings
        if int(net.epochs_done) >= settings["apart_epochs"]:
            size = (images.shape[2], images.shape[3])
            terms["consistency"] = settings["consistency"] * apart(theirs, ours, size)
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
        """Return the positive part of the transformer's maps times its attention."""
        return F.relu(cast("CRTNet", net).attended(images))


METHOD = CRT
