"""Where images come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from wsss.settings.base import ListOf, Strict

BACKGROUND_NAME = "background"  # label 0 of every dataset


# The words of CLIP-ES's published code: those that are not the name of the class, and its backgrounds.
VOC_WORDS = {
    "bird": "bird avian",
    "chair": "chair seat",
    "person": "person with clothes,people,human",
    "tvmonitor": "tvmonitor screen",
}
BACKGROUND_WORDS = (
    *(
        "ground",
        "land",
        "grass",
        "tree",
        "building",
        "wall",
        "sky",
        "lake",
        "water",
        "river",
        "sea",
    ),
    *("railway", "railroad", "keyboard", "helmet", "cloud", "house", "mountain", "ocean", "road"),
    *("rock", "street", "valley", "bridge", "sign"),
)
COCO_WORDS = {
    "person": "person with clothes,people,human",
    "motorcycle": "motorbike",
    "airplane": "aeroplane",
    "bird": "bird avian",
    "backpack": "backpack,bag",
    "umbrella": "umbrella,parasol",
    "handbag": "handbag,purse",
    "tie": "necktie",
    "snowboard": "sknowboard",  # as published
    "baseball glove": "glove",
    "spoon": "dessertspoon",
    "chair": "chair seat",
    "couch": "sofa",
    "potted plant": "pottedplant",
    "dining table": "diningtable",
    "tv": "tvmonitor screen",
    "remote": "remote control",
    "hair drier": "hairdrier,blowdrier",
}
COCO_BACKGROUND_WORDS = tuple(word for word in BACKGROUND_WORDS if word not in ("keyboard", "sign"))


WORDS = "words for a class, by its name; a class without words is called by its name"
WORDS_OF_BACKGROUNDS = (
    "words for what no class is, which compete with the classes; the name of a class is left out"
)


class WordsParams(Strict):
    """The words for the classes of a dataset, which `wsss text` turns into vectors."""

    words: dict[str, str] = Field({}, description=WORDS)
    background_words: tuple[str, ...] = Field(BACKGROUND_WORDS, description=WORDS_OF_BACKGROUNDS)


WORDS_KEYS = tuple(WordsParams.model_fields)  # no index depends on them
SALIENCY_NETWORKS = ("u2netp",)  # networks that `wsss saliency` runs


class DatasetParams(WordsParams):
    """What all datasets have: words for their classes, and perhaps saliency maps."""

    saliency: str = Field(
        "",
        description="saliency maps of the training images, for pseudo.saliency: a folder with one grey PNG "
        "per image, NAME.png; or u2netp: maps that `wsss saliency` makes with U²-Netp, which has learned "
        "from masks (Qin et al., 2020; docs/saliency.md); empty: none",
    )


def saliency_folder(params: DatasetParams) -> str:
    """Return the folder of a user's saliency maps; empty without one."""
    return "" if params.saliency in SALIENCY_NETWORKS else params.saliency


def saliency_network(params: DatasetParams) -> str:
    """Return the network that makes the saliency maps of a dataset; empty without one."""
    return params.saliency if params.saliency in SALIENCY_NETWORKS else ""


SHARED_KEYS = tuple(DatasetParams.model_fields)  # of all datasets; params.yaml leaves them out


class ShapesParams(DatasetParams):
    """Images drawn by the package: parts on shared bodies, constant contexts, exact masks."""

    train: PositiveInt = Field(320, description="number of training images")
    val: PositiveInt = Field(96, description="number of validation images")
    min_px: Annotated[int, Field(ge=32)] = Field(
        80, description="lower bound of an image's sides, in pixels"
    )
    max_px: Annotated[int, Field(ge=32)] = Field(
        128, description="upper bound of an image's sides, in pixels"
    )
    seed: int = Field(0, description="seed of the drawing, independent of the seed of a run")

    @model_validator(mode="after")
    def _order(self) -> ShapesParams:
        if self.min_px > self.max_px:
            raise ValueError(f"min_px ({self.min_px}) is larger than max_px ({self.max_px})")
        return self


TEXTURES = "textures"


class StampsParams(DatasetParams):
    """Photographs with alpha masks from Debian's tuxpaint-stamps-default on photographs of scenes."""

    root: str = Field("/usr/share/tuxpaint/stamps", description="folder that holds the stamps")
    backgrounds: str = Field(
        "/usr/share/scratch/Media/Backgrounds",
        description="folder with photographs of scenes for the backgrounds (Debian's package scratch), or "
        f"{TEXTURES}: drawn",
    )
    train: PositiveInt = Field(900, description="number of training images")
    val: PositiveInt = Field(
        300,
        description="number of validation images, composed of other photographs than the training images",
    )
    size_px: Annotated[int, Field(ge=64)] = Field(
        160, description="side of the square images, in pixels"
    )
    seed: int = Field(0, description="seed of the composition, independent of the seed of a run")


class VocParams(DatasetParams):
    """PASCAL VOC 2012, with the augmented training set of SBD if its masks are present."""

    words: dict[str, str] = Field(VOC_WORDS, description=WORDS)

    root: str = Field(
        "data/VOCdevkit/VOC2012",
        description="folder that holds JPEGImages, Annotations, ImageSets and SegmentationClass",
    )
    sbd_masks: str = Field(
        "SegmentationClassAug",
        description="folder below root with the masks of the augmented training set; it may be absent",
    )
    sbd: str = Field(
        "",
        description="folder `dataset` of the SBD download (train.txt, val.txt, cls/), from which the "
        "augmented training set is read instead of sbd_masks; empty: do not read SBD",
    )


class CocoParams(DatasetParams):
    """MS COCO 2014 with its 80 object classes; masks are painted from the annotated objects."""

    words: dict[str, str] = Field(COCO_WORDS, description=WORDS)
    background_words: tuple[str, ...] = Field(
        COCO_BACKGROUND_WORDS, description=WORDS_OF_BACKGROUNDS
    )

    root: str = Field(
        "data/coco14", description="folder that holds train2014, val2014 and annotations"
    )
    overlap: Literal["area", "last", "first"] = Field(
        "area",
        description="which object gets a pixel that several objects cover. area: the smaller object "
        "(coco2voc, ToCo, CPDGL); last, first: by the order of the annotations (YudeWang's "
        "code base)",
    )
    images: Literal["annotated", "all"] = Field(
        "annotated",
        description="which images are used. annotated: those with an object, 82 081 and 40 137 (ToCo, "
        "CPDGL); all: 82 783 and 40 504 (MCTformer, PCSS)",
    )
    seeds: Literal["all", "small"] = Field(
        "all",
        description="training images that seeds and pseudo labels are scored on. all: every one; small: "
        "the 5 208 of MCTformer and PCSS",
    )


class CubParams(DatasetParams):
    """CUB-200-2011: one bird per image, with a box; its test images are the split `val`."""

    root: str = Field("data/CUB_200_2011", description="folder that holds images.txt and images")


class CsvParams(DatasetParams):
    """Your own images, listed in a CSV file with one row per image."""

    table: str = Field(
        description="CSV file with the columns image, labels and split, and optionally mask"
    )
    root: str = Field(".", description="folder that the paths in the table are relative to")
    separator: Annotated[str, Field(min_length=1)] = Field(
        ";", description="text between two labels of one image"
    )
    classes: ListOf[str] = Field(
        (),
        description="names of all classes in the order of their numbers in the masks, from 1 on, "
        "without background; empty: the labels of the table, sorted by name",
    )

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(name.strip() for name in classes)
        if "" in names:
            raise ValueError("a name is empty")
        if BACKGROUND_NAME in names:
            raise ValueError(f"leave out {BACKGROUND_NAME}; its number in the masks is 0")
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"{repeated[0]!r} is there twice")
        return names


class DataParams(Strict):
    """Where images come from; a dataset is read only if `datasets` names it."""

    shapes: ShapesParams = ShapesParams()
    stamps: StampsParams = StampsParams()
    voc12: VocParams = VocParams()
    coco14: CocoParams = CocoParams()
    cub: CubParams = CubParams()
    csv: dict[str, CsvParams] = Field({}, description="your own datasets, each under a name")
