"""Backbones by name, and how their published initial weights are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from torch import Tensor, nn

from wsss.nets import vit
from wsss.nets.backbone import Backbone, TimmBackbone, ToyBackbone
from wsss.nets.resnet38 import ResNet38
from wsss.nets.resnet101_caffe import PUBLISHED, CaffeResNet101
from wsss.nets.resnet_irn import IrnResNet
from wsss.storage.checkpoint import Layout, fill


def build_backbone(name: str, stride: int) -> Backbone:
    """Return the backbone called `name`, whose last features have `stride` pixels per cell.

    resnet38 and resnet101_caffe have stride 8, resnet50_irn and resnet152_irn stride 16, and a
    transformer that of its patches, whatever is asked for.
    """
    if shape := vit.shape_of(name):
        return vit.ViT(shape)
    if name == "resnet101_caffe":
        return CaffeResNet101()
    if name == "resnet38":
        return ResNet38()
    if name in ("resnet50_irn", "resnet152_irn"):
        return IrnResNet(name.removesuffix("_irn"))
    return ToyBackbone(stride) if name == "toy" else TimmBackbone(name, stride)


def published_layout(name: str) -> Layout:
    """Return how published files of initial weights call the layers of a backbone.

    What follows the backbone in such a file is left out.
    """
    if name == "resnet38":  # PSA's classifier
        return Layout(dropped=(r"fc8\..*",))
    if name == "resnet101_caffe":
        return PUBLISHED
    return Layout(((r"^", "body."),), dropped=(r"(?:fc|classifier|head)\..*",))  # timm's names


def load_backbone(
    backbone: Backbone, state: dict[str, Tensor], where: Path | str = "the initial weights"
) -> None:
    """Load initial weights; those of the classifying layer are left over, none may be missing.

    where: named in the `CheckpointError` if they are others.
    """
    body = cast("nn.Module", getattr(backbone, "body", backbone))
    state = dict(backbone.adapt(state))
    wanted = body.state_dict()
    fill(body, {key: value for key, value in state.items() if key in wanted}, where)
