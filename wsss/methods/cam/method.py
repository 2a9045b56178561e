"""CAM (Zhou et al., CVPR 2016), trained as the baseline of IRNet (Ahn et al., CVPR 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

import torch.nn.functional as F
from torch import Tensor, nn

from wsss.data.workers import Batch
from wsss.methods.base import Method
from wsss.nets.backbone import Network
from wsss.nets.build import build_backbone
from wsss.storage.checkpoint import Layout


class ClassifierHyperParameters(Protocol):
    """The hyper-parameters of the classifier; cam.yaml explains them."""

    dropout: float


class CamNet(Network):
    """A backbone, the mean over space, and one linear score per class.

    dropout: probability that a channel of a training image is 0.
    """

    def __init__(self, name: str, stride: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(dropout)
        self.backbone = build_backbone(name, stride)
        self.classifier = nn.Conv2d(self.backbone.channels[-1], classes, 1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return scores (B, classes)."""
        features = self.dropout(self.backbone(images)[-1])
        return self.classifier(features.mean((2, 3), keepdim=True)).flatten(1)  # type: ignore[no-any-return]  # nn.Module call

    def maps(self, images: Tensor) -> Tensor:
        """Return the positive part of each class's score at every cell (B, classes, h, w)."""
        return F.relu(self.classifier(self.backbone(images)[-1]))


# Published files by backbone: PSA's, and IRNet's, where every tensor has up to four names.
LAYOUTS = {
    "resnet38": Layout(((r"^fc8\.", "classifier."), (r"^(?!classifier\.)", "backbone."))),
    "resnet50_irn": Layout(
        ((r"^resnet50\.", "backbone.body."),),
        dropped=(r"(?:backbone|newly_added|stage\d)\..*",),
    ),
}


class CAM(Method):
    """A classifier whose weights score every cell instead of the mean over all cells."""

    hyper_parameter_types = {"classifier": ClassifierHyperParameters}

    def build(self, network: str) -> CamNet:
        """Return the classifier."""
        params = self.params[network]
        dropout = cast("ClassifierHyperParameters", params.hyper_parameters).dropout
        return CamNet(params.backbone, params.stride, self.classes, dropout)

    def layout(self, network: str) -> Layout:
        """Return the layout of the classifier of PSA (resnet38) or IRNet (resnet50_irn)."""
        return LAYOUTS.get(self.params[network].backbone) or super().layout(network)

    def losses(
        self, network: str, nets: Mapping[str, nn.Module], batch: Batch, step: int
    ) -> dict[str, Tensor]:
        """Return the multi-label soft margin loss, a mean over classes and images."""
        scores = nets[network](batch["image"])
        return {"labels": F.multilabel_soft_margin_loss(scores, batch["label"])}

    def logits(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the classifier's scores (B, classes)."""
        return net(images)  # type: ignore[no-any-return]  # nn.Module call

    def cam(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the class activation maps (B, classes, h, w)."""
        return cast("CamNet", net).maps(images)


METHOD = CAM
