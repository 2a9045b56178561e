"""Backbones, the network that learns the labels, and the networks of a method's chain."""

from __future__ import annotations

from typing import ClassVar, Literal, Protocol

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from wsss.settings import timm_models
from wsss.settings.base import Strict
from wsss.settings.training import AugmentParams, TrainParams

# Our own backbones, whose stride is fixed: the stride, and the network whose initial weights they take.
# (IRNet started from torchvision's first ImageNet weights, timm's tv_in1k; ToCo and CPDGL from the ViT
# of the first release, which timm no longer takes by default.)
FIXED = {
    "resnet38": (8, "resnet38"),
    "resnet50_irn": (16, "resnet50.tv_in1k"),
    "resnet152_irn": (16, "resnet152.tv_in1k"),
    "resnet101_caffe": (8, "resnet101_caffe"),
    "vit_toy": (8, "vit_toy"),
    "deit_small_patch16_224": (16, "deit_small_patch16_224.fb_in1k"),
    "deit_base_patch16_224": (16, "deit_base_patch16_224.fb_in1k"),
    "deit_base_distilled_patch16_224": (16, "deit_base_distilled_patch16_224.fb_in1k"),
    "vit_base_patch16_224": (16, "vit_base_patch16_224.orig_in21k_ft_in1k"),
    "clip_toy": (8, "clip_toy"),
    "vit_base_patch16_clip_224": (16, "vit_base_patch16_clip_quickgelu_224.openai"),
    "vit_large_patch14_clip_224": (14, "vit_large_patch14_clip_quickgelu_224.openai"),
    "dinov2_vits14": (14, "vit_small_patch14_dinov2.lvd142m"),
    "dinov2_vitb14": (14, "vit_base_patch14_dinov2.lvd142m"),
    "dinov2_vitl14": (14, "vit_large_patch14_dinov2.lvd142m"),
    "dinov2_vits14_reg": (14, "vit_small_patch14_reg4_dinov2.lvd142m"),
    "dinov2_vitb14_reg": (14, "vit_base_patch14_reg4_dinov2.lvd142m"),
    "dinov2_vitl14_reg": (14, "vit_large_patch14_reg4_dinov2.lvd142m"),
    "conformer_toy": (8, "conformer_toy"),
    "conformer_small_patch16": (16, "conformer_small_patch16"),
}
TEXT_TOWERS = {  # by the image tower of the same CLIP, in open_clip's names
    "vit_base_patch16_clip_224": "ViT-B-16-quickgelu",
    "vit_large_patch14_clip_224": "ViT-L-14-quickgelu",
}
# The kind of the initial weights of backbones that were not trained on ImageNet.
KINDS = {
    **dict.fromkeys(TEXT_TOWERS, "clip"),
    **{name: "dinov2" for name in FIXED if name.startswith("dinov2_")},
}


OWN = ("toy", *FIXED)  # the backbones that are not timm's
PATCH_PX = (
    14  # side of the patches of some transformers; no convolutional network has it as its stride
)


class NetParams(Strict):
    """The backbone of a network."""

    resampled: ClassVar[bool] = False  # whether `stride` is the head's, whatever the backbone's

    backbone: str = Field(
        "toy",
        description="toy, resnet38 (PSA; stride 8), resnet50_irn (IRNet; stride 16), resnet152_irn (CRT), "
        "resnet101_caffe (DeepLab-v2; stride 8), vit_toy (stride 8), deit_small_patch16_224 and its "
        "like (stride 16), clip_toy (stride 8), vit_base_patch16_clip_224 (CLIP; stride 16), "
        "vit_large_patch14_clip_224 (CLIP; stride 14), dinov2_vits14, dinov2_vitb14 and dinov2_vitl14 "
        "(DINOv2 as in its authors' hub; stride 14; with registers: dinov2_vits14_reg and its like), any "
        "convolutional network that timm offers, such as resnet50, or one of its plain transformers (ViT, "
        "DINO, DINOv2, CLIP, SigLIP, EVA), such as vit_small_patch14_dinov2, whose stride is the side of "
        "its patches",
    )
    weights: Literal["none", "imagenet", "clip", "dinov2"] = Field(
        "none",
        description="initial weights; clip: those of CLIP's image towers (vit_base_patch16_clip_224 and "
        "vit_large_patch14_clip_224); dinov2: those of DINOv2 (dinov2_vits14 and its like)",
    )
    stride: Literal[4, 8, 14, 16, 32] = Field(8, description="pixels per cell of the last features")

    @field_validator("backbone")
    @classmethod
    def _exists(cls, backbone: str) -> str:
        problem = "" if backbone in OWN else timm_models.problem(backbone)
        if problem:
            raise ValueError(problem)
        return backbone

    @model_validator(mode="after")
    def _stride_fits(self) -> NetParams:
        only = FIXED[self.backbone][0] if self.backbone in FIXED else self._patch
        if self.resampled:
            return self
        if only is not None and self.stride != only:
            raise ValueError(f"{self.backbone} has stride {only}: set stride to it")
        if only is None and self.stride == PATCH_PX:
            raise ValueError(f"{PATCH_PX} is the stride of transformers alone: set 4, 8, 16 or 32")
        return self

    @model_validator(mode="after")
    def _weights_fit(self) -> NetParams:
        kind = KINDS.get(self.backbone, "imagenet")
        if self.weights not in ("none", kind):
            raise ValueError(
                f"{self.backbone} has no weights {self.weights!r}: set weights to {kind}"
            )
        return self

    @property
    def _patch(self) -> int | None:
        return None if self.backbone in OWN else timm_models.patch_of(self.backbone)

    @property
    def relative(self) -> str:
        """The published network whose weights the backbone may start from."""
        return FIXED[self.backbone][1] if self.backbone in FIXED else self.backbone

    @property
    def initial(self) -> str | None:
        """The name of the initial weights, or none."""
        return None if self.weights == "none" else f"{self.relative}.{self.weights}"


class AuxiliaryCnnParams(NetParams):
    """The backbone of a second network that learns beside the first (CRT)."""


class SecondBackboneParams(NetParams):
    """A frozen backbone that a decoder reads beside the first (WeCLIP+)."""


EXTRA_KNOWLEDGE = (
    "for the tables: what the file of published weights was trained on beyond ImageNet-1k and the "
    "image labels of this dataset, such as COCO masks; none: nothing; null: unknown. Of published "
    "files the package knows it by their names"
)


class PretrainedParams(NetParams):
    """A network whose backbone may start from a published checkpoint."""

    initial_file: str | None = Field(
        None,
        description="file with published initial weights of the backbone, instead of weights",
    )

    checkpoint: str | None = Field(
        None,
        description="file with published weights of this whole network, taken instead of training, or FILE:key for a part of it",
    )
    extra_knowledge: str | None = Field(None, description=EXTRA_KNOWLEDGE)

    @property
    def initial(self) -> str | None:
        """The name of the initial weights, or none."""
        return None if self.checkpoint else super().initial

    @model_validator(mode="after")
    def _initial_weights(self) -> PretrainedParams:
        if self.initial_file and self.weights != "none":
            raise ValueError("initial_file and weights exclude each other; set weights: none")
        return self


class ClassifierParams(NetParams):
    """The network that learns the image-level labels and whose maps become CAMs."""

    checkpoint: str | None = Field(
        None,
        description="file of published weights that are taken instead of training, or FILE:key for a part of it",
    )
    extra_knowledge: str | None = Field(None, description=EXTRA_KNOWLEDGE)
    auxiliary_cnn: AuxiliaryCnnParams | None = Field(
        None,
        description="a second backbone that learns beside the first, for methods with two (CRT)",
    )
    second_backbone: SecondBackboneParams | None = Field(
        None,
        description="a frozen backbone that a decoder reads beside the first, for methods with two (WeCLIP+)",
    )
    augment: AugmentParams = AugmentParams()
    train: TrainParams = TrainParams(epochs=25)

    @property
    def further_backbones(self) -> dict[str, NetParams]:
        """The backbones beside the first, by the name of their setting."""
        further = {"auxiliary_cnn": self.auxiliary_cnn, "second_backbone": self.second_backbone}
        return {name: backbone for name, backbone in further.items() if backbone}

    @property
    def initial(self) -> str | None:
        """The name of the initial weights, or none."""
        return None if self.checkpoint else super().initial


class TextHyperParameters(Protocol):
    """The hyper-parameters of a given network that may be given the vectors of words."""

    text: Literal["words", "mean_features"]
    templates: tuple[str, ...]


class HyperParameters(Strict):
    """Base of the hyper-parameters of one network; its method's YAML file has their definitions."""


class MethodNetworkParams(ClassifierParams):
    """One network of a method's chain, with the method's hyper-parameters."""

    hyper_parameters: SerializeAsAny[HyperParameters] = Field(
        HyperParameters(), description="the method's own parameters of this network"
    )
