"""Build backbones by name, and load their published initial weights."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from torch import Tensor, nn

from wsss.nets import clip_vit, register_vit, vit
from wsss.nets.backbone import Backbone, TimmBackbone, ToyBackbone
from wsss.nets.resnet38 import ResNet38
from wsss.nets.resnet101_caffe import PUBLISHED, CaffeResNet101
from wsss.nets.resnet_irn import IrnResNet
from wsss.nets.timm_transformer import TimmTransformer
from wsss.settings import timm_models
from wsss.storage.checkpoint import Layout, fill


def build_backbone(name: str, stride: int) -> Backbone:
    """Return the backbone called `name`, whose last features have `stride` pixels per cell.

    Some backbones ignore `stride`: resnet38 and resnet101_caffe have 8, resnet50_irn and resnet152_irn
    16, transformers the size of their patches.
    """
    if shape := vit.shape_of(name):
        return vit.ViT(shape)
    if shape := register_vit.shape_of(name):
        return register_vit.RegisterViT(shape)
    if tower := clip_vit.shape_of(name):
        return clip_vit.ClipViT(tower)
    if name == "resnet101_caffe":
        return CaffeResNet101()
    if name == "resnet38":
        return ResNet38()
    if name in ("resnet50_irn", "resnet152_irn"):
        return IrnResNet(name.removesuffix("_irn"))
    if name == "toy":
        return ToyBackbone(stride)
    if timm_models.module_of(name) not in timm_models.PLAIN_TRANSFORMERS:
        return TimmBackbone(name, stride)
    return TimmTransformer(name)


def published_layout(name: str) -> Layout:
    """Return the layout of the published initial weights of a backbone; their classifier is dropped."""
    if name == "resnet38":  # PSA's file
        return Layout(dropped=(r"fc8\..*",))
    if name == "resnet101_caffe":
        return PUBLISHED
    return Layout(((r"^", "body."),), dropped=(r"(?:fc|classifier|head)\..*",))  # timm's names


def load_backbone(
    backbone: Backbone, state: dict[str, Tensor], where: Path | str = "the initial weights"
) -> None:
    """Load initial weights; a classifier in them is ignored, but no weight may be missing.

    where: the source that a `CheckpointError` names.
    """
    body = cast("nn.Module", getattr(backbone, "body", backbone))
    state = dict(backbone.adapt(state))
    expected = body.state_dict()
    fill(body, {key: value for key, value in state.items() if key in expected}, where)
