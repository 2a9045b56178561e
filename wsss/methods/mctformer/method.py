"""MCTformer (Xu et al., CVPR 2022; plus: 2023), a transformer with a class token per class.

Differences to the published code: float32 instead of float16 wherever the trainer is told so, and the
position table of any grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from wsss.data.workers import Batch
from wsss.methods.base import Method
from wsss.methods.mctformer.network import PUBLISHED, MCTformer, token_contrast
from wsss.storage.checkpoint import Layout

CONTRAST_BLOCKS = 12  # plus: the last ones, whose class tokens are compared


class Tokens(Method):
    """Class tokens that learn the labels, beside patches that do (V2, plus)."""

    def build(self, network: str) -> MCTformer:
        """Return the classifier."""
        params = self.params[network]
        return MCTformer.of(params, self.classes, params.settings["version"])

    def layout(self, network: str) -> Layout:
        """Return the layout of the authors' files, the same for all versions."""
        return PUBLISHED

    def losses(
        self, network: str, nets: Mapping[str, nn.Module], batch: Batch, step: int
    ) -> dict[str, Tensor]:
        """Return the losses of class tokens and patches, and the contrast of class tokens (plus)."""
        net, labels = cast("MCTformer", nets[network]), batch["label"]
        blocks = range(len(net.backbone.blocks))[-CONTRAST_BLOCKS:]
        seen = net.look(batch["image"], keep=blocks if net.version == "plus" else ())
        terms = {"tokens": F.multilabel_soft_margin_loss(seen.class_logits, labels)}
        if net.version != "v1":
            terms["patches"] = F.multilabel_soft_margin_loss(net.patch_logits(seen), labels)
        if net.version == "plus":
            tokens = [kept[:, : self.classes] for kept in seen.kept.values()]
            terms["contrast"] = token_contrast(tokens, labels)
        return terms

    def logits(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the scores of the class tokens; plus: their mean with those of the patches."""
        return net(images)  # type: ignore[no-any-return]  # nn.Module call

    def cam(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the attention of class tokens times the patches' scores, spread by attention."""
        settings, found = self.params["classifier"].settings, cast("MCTformer", net)
        seen = found.look(images, "mean")
        mean = found.version == "plus"
        return seen.spread(found.maps(seen, settings["blocks"], mean, settings["map"]))


METHOD = Tokens
