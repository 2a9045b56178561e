"""Where images come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from wsss.settings.base import Strict


class ShapesParams(Strict):
    """Pictures drawn by the package: parts on shared bodies, constant contexts, exact masks."""

    train: PositiveInt = Field(320, description="training images")
    val: PositiveInt = Field(96, description="validation images")
    min_px: Annotated[int, Field(ge=32)] = Field(80, description="shortest side of an image")
    max_px: Annotated[int, Field(ge=32)] = Field(128, description="longest side of an image")
    seed: int = Field(0, description="seed of the drawing; not the seed of a run")

    @model_validator(mode="after")
    def _order(self) -> ShapesParams:
        if self.min_px > self.max_px:
            raise ValueError(f"min_px ({self.min_px}) is larger than max_px ({self.max_px})")
        return self


class StampsParams(Strict):
    """Photographs with alpha masks from Debian's tuxpaint-stamps-default on drawn textures."""

    root: str = Field("/usr/share/tuxpaint/stamps", description="folder of the stamps")
    train: PositiveInt = Field(900, description="training images")
    val: PositiveInt = Field(300, description="validation images, of other photographs")
    size_px: Annotated[int, Field(ge=64)] = Field(160, description="side of the square images")
    seed: int = Field(0, description="seed of the composition; not the seed of a run")


class VocParams(Strict):
    """PASCAL VOC 2012, with the augmented training set of SBD where its masks are there."""

    root: str = Field(
        "data/VOCdevkit/VOC2012", description="folder with JPEGImages, Annotations, ..."
    )
    sbd_masks: str = Field(
        "SegmentationClassAug",
        description="folder under root with the masks of the augmented set; may be absent",
    )
    sbd: str = Field(
        "",
        description="folder `dataset` of SBD (train.txt, val.txt, cls/): the augmented set comes "
        "from it instead of sbd_masks; empty is none",
    )
    saliency: str = Field(
        "",
        description="folder with a grey PNG per training image, for methods that use saliency "
        "(PCSformer); empty is none",
    )


class CocoParams(Strict):
    """MS COCO 2014, the 80 things as classes, with masks painted from the instances."""

    root: str = Field("data/coco14", description="folder with train2014, val2014 and annotations")
    overlap: Literal["area", "last", "first"] = Field(
        "area",
        description="which object wins a pixel. area: the smaller (coco2voc, ToCo, CPDGL); last, "
        "first: in the order of the annotations (YudeWang's code base)",
    )
    images: Literal["annotated", "all"] = Field(
        "annotated",
        description="annotated: 82 081 and 40 137 images (ToCo, CPDGL); all: 82 783 and 40 504 "
        "(MCTformer, PCSS)",
    )
    seeds: Literal["all", "small"] = Field(
        "all",
        description="training images that seeds and pseudo labels are scored on; small: the 5 208 "
        "of MCTformer and PCSS",
    )


class CubParams(Strict):
    """CUB-200-2011: one bird per image, with a box; its test images are the split val."""

    root: str = Field("data/CUB_200_2011", description="folder with images.txt and images")


class CsvParams(Strict):
    """A user's own images: a table with a row per image."""

    table: str = Field(description="CSV with the columns image, labels, split and optionally mask")
    root: str = Field(".", description="folder that the paths of the table start from")
    separator: str = Field(";", description="what stands between two labels of one image")


class DataParams(Strict):
    """Where images come from; a dataset is used only if `datasets` names it."""

    shapes: ShapesParams = ShapesParams()
    stamps: StampsParams = StampsParams()
    voc12: VocParams = VocParams()
    coco14: CocoParams = CocoParams()
    cub: CubParams = CubParams()
    csv: dict[str, CsvParams] = Field({}, description="your own datasets, by name")
