"""The segmenter, its training and its inference."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from wsss.settings import presets
from wsss.settings.base import CrfName, ListOf, Strict
from wsss.settings.cams import BATCH_MEGAPIXELS, RESIZE, Resize
from wsss.settings.networks import PretrainedParams
from wsss.settings.training import AugmentParams, TrainParams


class SegmenterTestParams(Strict):
    """Inference of the segmenter."""

    scales: ListOf[PositiveFloat] = Field(
        (0.75, 1.0, 1.25),
        description="factors by which images are resized before the forward passes",
    )
    mirror: bool = Field(True, description="also run the network on the mirrored image")
    resize: Resize = Field("picture", description=RESIZE)
    size_rounding: Literal["round", "floor"] = Field(
        "round", description="how a scaled side becomes a whole number of pixels (MCTformer: floor)"
    )
    merge: Literal["mean", "sum", "max", "max_softmax"] = Field(
        "mean",
        description="how views are merged: mean, sum or maximum of their logits, or maximum of their "
        "softmax",
    )
    crf: CrfName = Field("none", description="CRF set that is applied to the class probabilities")
    crf_picture: Literal["original", "bgr", "denormalised", "wrapped"] = Field(
        "original",
        description="image that guides the CRF. original: the file; bgr: the file with swapped channels; "
        "denormalised: the network's input, scaled back and cut to 8 bits, as published "
        "(DeepLab-v1); wrapped: the image less its mean, wrapped around to 8 bits, as "
        "published (DeepLab-v2)",
    )
    batch: PositiveInt = Field(
        32, description="largest number of images of equal size in one forward pass"
    )
    batch_megapixels: PositiveFloat = Field(64.0, description=BATCH_MEGAPIXELS)


class DecodeParams(SegmenterTestParams):
    """Inference of the decoder of a method that learns masks by itself (ToCo, SeCo, CPDGL)."""

    square_px: PositiveInt | None = Field(
        None,
        description="side of the square, in pixels, that the scales refer to; null: they refer to the "
        "image (CPDGL: 448)",
    )
    long_side_px: PositiveInt | None = Field(
        None,
        description="long side, in pixels, that images are resized to before the scales; null: their own "
        "(WeCLIP: 512)",
    )
    merge_at: Literal["image", "grid"] = Field(
        "image",
        description="size at which views are merged. image: the image; grid: the cells of the view at scale 1, "
        "from which merged logits are enlarged once (WeCLIP)",
    )
    square_first: bool = Field(
        False,
        description="resize images to that square before they are resized to the scales (ToCo on COCO)",
    )
    mirror_first: bool = Field(
        True,
        description="whether the first of the scales has a mirrored view too, if mirror is on; without it the "
        "view counts twice (ExCEL on VOC: false)",
    )
    mirror_merge: Literal["merge", "sum", "max"] = Field(
        "merge",
        description="how the logits of an image and of its mirror image are merged. merge: as the scales",
    )

    @model_validator(mode="after")
    def _one_base(self) -> DecodeParams:
        if self.square_px and self.long_side_px:
            raise ValueError("square_px and long_side_px exclude each other")
        return self


class SegmenterParams(PretrainedParams):
    """A network of the DeepLab family, trained on pseudo labels."""

    preset: str | None = Field(
        None,
        description="published settings that the keys beside it, and later layers, are laid over: "
        + ", ".join(presets.segmenters()),
    )
    head: Literal["deeplab_v2", "deeplab_v1", "deeplab_v3plus", "resnet38"] = Field(
        "deeplab_v2",
        description="deeplab_v2; deeplab_v1 and deeplab_v3plus as in YudeWang's code base; resnet38: "
        "MCTformer's head",
    )
    rates: ListOf[PositiveInt] = Field(
        (1, 2, 4, 6),
        description="dilations of the head's convolutions; deeplab_v1 and resnet38 use the first one "
        "alone",
    )
    msc: ListOf[PositiveFloat] = Field(
        (),
        description="factors of smaller copies of the image that the network also processes; the maximum "
        "over all of them counts, and each is trained (DeepLab-v2: 0.5, 0.75)",
    )
    recompute_factor: bool = Field(
        False,
        description="recompute these factors from the rounded sizes, as PyTorch did up to 1.5",
    )
    align_corners: bool = Field(
        False, description="align corners when logits are enlarged (DeepLab-v1, DeepLab-v3+)"
    )
    loss_at: Literal["labels", "logits"] = Field(
        "labels",
        description="size at which the loss is computed. labels: logits are enlarged; logits: labels are "
        "reduced (DeepLab-v2)",
    )
    augment: AugmentParams = AugmentParams()
    train: TrainParams = TrainParams(epochs=20)
    test: SegmenterTestParams = SegmenterTestParams()

    @model_validator(mode="after")
    def _labels_follow(self) -> SegmenterParams:
        self.augment.check_pixel_labels()
        return self
