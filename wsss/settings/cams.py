"""CAM inference."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from wsss.settings.base import Strict

Resize = Literal["picture", "bicubic", "bilinear", "bilinear_corners"]
RESIZE = (
    "picture: the 8 bits, smoothed bicubic (Pillow); else the normalised image: OpenCV's bicubic, "
    "bilinear, or bilinear with aligned corners"
)


class CamParams(Strict):
    """Multi-scale CAM inference."""

    scales: tuple[PositiveFloat, ...] = Field(
        (1.0, 0.5, 1.5, 2.0), description="resize factors (PSA and IRNet: 1, 0.5, 1.5, 2)"
    )
    mirror: bool = Field(True, description="also look at the mirrored image")
    stride: PositiveInt = Field(4, description="pixels per cell of the stored CAM (IRNet: 4)")
    high_res: bool = Field(
        False,
        description="also store the CAM at the size of the image, resized to multiples of 16 px and "
        "cut, and use it there, as IRNet does",
    )
    normalise: Literal["max", "range", "range_cut", "range_signed", "stretch"] = Field(
        "max",
        description="each map is divided by its largest score (PSA, IRNet), or less its smallest "
        "score by its range (MCTformer), or so with 1e-5 cut off (PCSS), or so with what becomes "
        "negative kept (TransCAM, PCSformer), or less its smallest score as max (ToCo)",
    )
    size_multiple: PositiveInt = Field(
        1,
        description="stretch images at each scale to sides that are multiples of it (SemFormer 16)",
    )
    size_multiple_rounding: Literal["up", "down"] = Field(
        "up", description="or shrink them to such sides (PCSformer: down)"
    )
    long_side_px: PositiveInt | None = Field(
        None, description="long side that images are brought to before the scales (PCSformer 500)"
    )
    square_px: PositiveInt | None = Field(
        None,
        description="side of the square that images are brought to first (ToCo 448)",
    )
    merge_at: Literal["square", "image"] = Field(
        "square",
        description="where maps are joined and normalised if there is such a square; image: images go "
        "to the scales of the square directly (TransCAM)",
    )
    resize: Resize = Field("picture", description=RESIZE)
    size_rounding: Literal["round", "floor"] = Field(
        "round", description="how a scaled side becomes whole (ToCo: floor)"
    )
    mirror_merge: Literal["sum", "max"] = Field(
        "sum", description="of an image and its mirror image; scales are summed (ToCo: max)"
    )
    clip: Literal["first", "last", "sum"] = Field(
        "first",
        description="negative scores become 0 first, or after resizing and joining with the mirror "
        "image (ToCo: last), or in the sum of all looks (TransCAM, PCSformer)",
    )
    batch: PositiveInt = Field(32, description="images of one size worked on together")

    @model_validator(mode="after")
    def _one_base(self) -> CamParams:
        if self.square_px and self.long_side_px:
            raise ValueError("square_px and long_side_px exclude each other")
        return self

    @property
    def at_square(self) -> bool:
        """Whether maps are joined at the square."""
        return self.square_px is not None and self.merge_at == "square"
