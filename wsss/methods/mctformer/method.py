"""MCTformer (Xu et al., CVPR 2022; plus: 2023), a transformer with a class token per class.

Differences: the precision is a setting of the training, not always float16; the position table fits
any grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

import torch.nn.functional as F
from torch import Tensor, nn

from wsss.data.workers import Batch
from wsss.methods.base import Method
from wsss.methods.mctformer.network import PUBLISHED, MapKind, MCTformer, Version, token_contrast
from wsss.storage.checkpoint import Layout

CONTRAST_BLOCKS = 12  # plus: number of last blocks whose class tokens are compared


class ClassifierHyperParameters(Protocol):
    """The hyper-parameters of the classifier; mctformer.yaml explains them."""

    version: Version
    drop_path: float
    blocks: int
    map: MapKind


class MultiClassTokens(Method):
    """Class tokens, and in V2 and plus also patches, that learn the labels."""

    hyper_parameter_types = {"classifier": ClassifierHyperParameters}

    def _hyper_parameters(self, network: str) -> ClassifierHyperParameters:
        return cast("ClassifierHyperParameters", self.params[network].hyper_parameters)

    def build(self, network: str) -> MCTformer:
        """Return the classifier."""
        hyper_parameters = self._hyper_parameters(network)
        version, drop_path = hyper_parameters.version, hyper_parameters.drop_path
        return MCTformer.of(self.params[network], self.classes, version, drop_path)

    def layout(self, network: str) -> Layout:
        """Return the layout of the authors' files, the same for all versions."""
        return PUBLISHED

    def losses(
        self, network: str, nets: Mapping[str, nn.Module], batch: Batch, step: int
    ) -> dict[str, Tensor]:
        """Return the losses of class tokens and patches, and the contrast of class tokens (plus)."""
        net, labels = cast("MCTformer", nets[network]), batch["label"]
        blocks = range(len(net.backbone.blocks))[-CONTRAST_BLOCKS:]
        encoded = net.encode(batch["image"], keep=blocks if net.version == "plus" else ())
        terms = {"tokens": F.multilabel_soft_margin_loss(encoded.class_logits, labels)}
        if net.version != "v1":
            terms["patches"] = F.multilabel_soft_margin_loss(net.patch_logits(encoded), labels)
        if net.version == "plus":
            class_tokens = [tokens[:, : self.classes] for tokens in encoded.block_tokens.values()]
            terms["contrast"] = token_contrast(class_tokens, labels)
        return terms

    def logits(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the scores (B, classes) of the class tokens; plus averages them with the patches'."""
        return net(images)  # type: ignore[no-any-return]  # nn.Module call

    def cam(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the attention of class tokens times the patches' scores, spread by attention."""
        hyper_parameters, classifier = self._hyper_parameters("classifier"), cast("MCTformer", net)
        encoded = classifier.encode(images, "mean")
        mean = classifier.version == "plus"
        maps = classifier.maps(encoded, hyper_parameters.blocks, mean, hyper_parameters.map)
        return encoded.spread(maps)


METHOD = MultiClassTokens
