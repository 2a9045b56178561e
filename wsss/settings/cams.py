"""Inference of CAMs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from wsss.settings.base import ListOf, Strict

Resize = Literal["picture", "picture_gpu", "bicubic", "bilinear", "bilinear_corners"]
RESIZE = (
    "how images are resized. picture: Pillow's bicubic on 8 bits, antialiased, in the processes "
    "that load images; picture_gpu: the same bytes, computed on the GPU; the others "
    "resize the normalised image: OpenCV's bicubic, bilinear, or bilinear with aligned corners"
)
BATCH_MEGAPIXELS = (
    "largest size of a forward pass, in millions of pixels over all images at the largest scale, "
    "mirrored ones too: larger batches are cut. If the GPU's memory is exhausted all the same, the "
    "batch is halved. Results depend on neither, up to rounding"
)


class CamParams(Strict):
    """Inference of CAMs at several scales."""

    scales: ListOf[PositiveFloat] = Field(
        (1.0, 0.5, 1.5, 2.0),
        description="factors by which images are resized before the forward passes (PSA and IRNet: 1, "
        "0.5, 1.5, 2)",
    )
    mirror: bool = Field(True, description="also run the network on the mirrored image")
    stride: PositiveInt = Field(4, description="image pixels per cell of the stored CAM (IRNet: 4)")
    high_res: bool = Field(
        False,
        description="also store the CAM at the size of the image, and use it for seeds and affinity "
        "labels. As in IRNet, maps are resized to multiples of 16 px and cropped",
    )
    normalise: Literal["max", "range", "range_cut", "range_signed", "stretch", "none"] = Field(
        "max",
        description="how each class map is scaled to [0, 1]. max: divide by the largest score (PSA, "
        "IRNet); range: subtract the smallest score, divide by the range (MCTformer); "
        "range_cut: as range, less 1e-5, negative scores become 0 (PCSS); range_signed: as "
        "range_cut, but negative scores stay (TransCAM, PCSformer); stretch: subtract the "
        "smallest score, then as max (ToCo); none: maps of one view that the method has scaled "
        "itself (CLIP-ES)",
    )
    size_multiple: PositiveInt = Field(
        1,
        description="at each scale resize images to sides that are multiples of this number of pixels "
        "(SemFormer: 16)",
    )
    size_multiple_rounding: Literal["up", "down"] = Field(
        "up", description="whether sides are rounded up or down to such multiples (PCSformer: down)"
    )
    long_side_px: PositiveInt | None = Field(
        None,
        description="resize images to this long side before the scales; null: keep their size (PCSformer: "
        "500)",
    )
    square_px: PositiveInt | None = Field(
        None,
        description="resize images to a square of this side before the scales; null: keep their size "
        "(ToCo: 448)",
    )
    merge_at: Literal["square", "image"] = Field(
        "square",
        description="with square_px: size at which the maps of all views are merged and normalised. "
        "square: the square; image: the image, and images are resized from their own size to "
        "each scale of the square (TransCAM)",
    )
    resize: Resize = Field("picture", description=RESIZE)
    size_rounding: Literal["round", "floor"] = Field(
        "round", description="how a scaled side becomes a whole number of pixels (ToCo: floor)"
    )
    mirror_merge: Literal["sum", "max"] = Field(
        "sum",
        description="how the maps of an image and of its mirror image are merged; scales are always "
        "summed (ToCo: max)",
    )
    clip: Literal["first", "last", "sum"] = Field(
        "first",
        description="when negative scores become 0. first: before maps are resized; last: after maps are "
        "resized and merged with the mirror image (ToCo); sum: after all views are summed "
        "(TransCAM, PCSformer)",
    )
    batch: PositiveInt = Field(
        32, description="largest number of images of equal size in one forward pass"
    )
    batch_megapixels: PositiveFloat = Field(64.0, description=BATCH_MEGAPIXELS)

    @model_validator(mode="after")
    def _one_base(self) -> CamParams:
        if self.square_px and self.long_side_px:
            raise ValueError("square_px and long_side_px exclude each other")
        return self

    @model_validator(mode="after")
    def _sums_are_normalised(self) -> CamParams:
        if self.normalise == "none" and (self.mirror or len(self.scales) > 1):
            raise ValueError("normalise 'none' needs one view: set mirror to false, and one scale")
        return self

    @property
    def at_square(self) -> bool:
        """Whether maps are merged at the square instead of the size of the image."""
        return self.square_px is not None and self.merge_at == "square"
