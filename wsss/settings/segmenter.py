"""The segmenter and its test."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from wsss.settings import presets
from wsss.settings.base import CrfName, Strict
from wsss.settings.cams import RESIZE, Resize
from wsss.settings.networks import PretrainedParams
from wsss.settings.refinement import _check_labels_follow
from wsss.settings.training import AugmentParams, TrainParams


class SegmenterTestParams(Strict):
    """Inference of the segmenter."""

    scales: tuple[PositiveFloat, ...] = Field((0.75, 1.0, 1.25), description="resize factors")
    mirror: bool = Field(True, description="also look at the mirrored image")
    resize: Resize = Field("picture", description=RESIZE)
    size_rounding: Literal["round", "floor"] = Field(
        "round", description="how a scaled side becomes whole (MCTformer: floor)"
    )
    merge: Literal["mean", "sum", "max", "max_softmax"] = Field(
        "mean", description="of all looks: mean, sum or maximum of logits, or maximum of softmax"
    )
    crf: CrfName = Field("none", description="CRF set applied to the probabilities")
    crf_picture: Literal["original", "bgr", "denormalised", "wrapped"] = Field(
        "original",
        description="what the CRF sees: the file; its channels swapped; or, as published: scaled "
        "back and cut to 8 bits (DeepLab-v1), mean-subtracted and wrapped to 8 bits (DeepLab-v2)",
    )
    batch: PositiveInt = Field(32, description="images of one size worked on together")


class DecodeParams(SegmenterTestParams):
    """Inference of the decoder of a method that learns masks by itself (ToCo, SeCo, CPDGL)."""

    square_px: PositiveInt | None = Field(
        None, description="side of the square that scales are of, instead of the image (CPDGL 448)"
    )
    square_first: bool = Field(
        False, description="images are brought to that square before its scales (ToCo on COCO)"
    )
    mirror_merge: Literal["merge", "sum", "max"] = Field(
        "merge",
        description="how an image and its mirror image are merged; merge: as the scales are",
    )


class SegmenterParams(PretrainedParams):
    """A network of the DeepLab family, trained on pseudo labels."""

    preset: str | None = Field(
        None,
        description="start from published settings (" + ", ".join(presets.segmenters()) + "); keys "
        "whose value is not the default are laid over them, in overrides all keys",
    )
    head: Literal["deeplab_v2", "deeplab_v1", "deeplab_v3plus", "resnet38"] = Field(
        "deeplab_v2",
        description="DeepLab-v2; the code base's DeepLab-v1 and v3+; MCTformer's on resnet38",
    )
    rates: tuple[PositiveInt, ...] = Field(
        (1, 2, 4, 6), description="dilations of the head; deeplab_v1 and resnet38 use the first"
    )
    msc: tuple[PositiveFloat, ...] = Field(
        (),
        description="factors of further looks inside the network, each trained, whose maximum "
        "counts (DeepLab-v2: 0.5, 0.75)",
    )
    recompute_factor: bool = Field(
        False, description="derive these factors from whole sizes again, as PyTorch did up to 1.5"
    )
    align_corners: bool = Field(
        False, description="logits grow with aligned corners (DeepLab-v1, v3+)"
    )
    loss_at: Literal["labels", "logits"] = Field(
        "labels", description="logits grow to the labels, or labels are reduced (DeepLab-v2)"
    )
    augment: AugmentParams = AugmentParams()
    train: TrainParams = TrainParams(epochs=20)
    test: SegmenterTestParams = SegmenterTestParams()

    @model_validator(mode="after")
    def _labels_follow(self) -> SegmenterParams:
        _check_labels_follow(self.augment)
        return self
