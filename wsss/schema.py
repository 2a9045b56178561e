"""Every number that a person may change: typed, with its default, its reason and its source.

The defaults here are the ones of `params.yaml` (the embedded demo); `wsss params --write` renders
that file from this one. Larger experiments are presets in `params/`, merged over it.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from wsss import presets
from wsss.crf import CRF_SETS

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
CrfName = Literal[("none", *CRF_SETS)]  # type: ignore[valid-type]  # literal made from the table


class Strict(BaseModel):
    """Base of all settings: unknown keys are errors, values do not change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


class AugmentParams(Strict):
    """Random changes of a training image: scale, mirror, colour, crop."""

    crop_px: PositiveInt = Field(96, description="side of the square crop")
    scale: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.75, 1.25), description="range of the uniform resize factor"
    )
    scales: tuple[PositiveFloat, ...] = Field(
        (), description="instead of scale: factors of which one is drawn, as DeepLab-v2 does"
    )
    long_side_px: tuple[PositiveInt, PositiveInt] | None = Field(
        None, description="instead of scale: range of the long side, as PSA and IRNet do"
    )
    area: tuple[PositiveFloat, PositiveFloat] | None = Field(
        None,
        description="instead of scale: range of the share of the image in a box that is cut out and "
        "resized to crop_px (DeiT 0.08 to 1, PCSS 0.6 to 1.2)",
    )
    square_px: PositiveInt | None = Field(
        None, description="instead of scale: side of the square that images become (CUB 256)"
    )
    whole_px: Literal["round", "floor"] = Field(
        "round", description="how a scaled side becomes whole (DeepLab-v2, MCTformer: floor)"
    )
    interpolation: Literal["bicubic", "bilinear", "bicubic_plain", "bilinear_plain"] = Field(
        "bicubic",
        description="bicubic, bilinear: on 8 bits, smoothed where it shrinks (Pillow); bicubic_plain, "
        "bilinear_plain: OpenCV's, the first on 8 bits, the second not rounded",
    )
    label_cell: Literal["centre", "corner"] = Field(
        "centre", description="pixel of the old labels that a new one takes (OpenCV: corner)"
    )
    mirror: bool = Field(True, description="mirror every second image")
    jitter: Fraction = Field(
        0.2, description="range of brightness, contrast and saturation factors"
    )
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.0, description="range of the turn of the hue, of a full circle (PSA 0.1)"
    )
    hsv: Annotated[int, Field(ge=0, le=90)] = Field(
        0, description="range of whole steps of hue (of 180), saturation, value (DeepLab-v1: 10)"
    )
    rand_augment: Annotated[float, Field(ge=0, le=10)] = Field(
        0.0, description="magnitude of RandAugment's operations, applied with colours (DeiT 9)"
    )
    erase: Fraction = Field(
        0.0, description="probability that a box of the crop becomes noise (DeiT 0.25)"
    )
    order: tuple[Literal["scale", "mirror", "colour", "crop"], ...] = Field(
        ("scale", "mirror", "colour", "crop"),
        description="what comes first (DeepLab-v2 mirrors last, DeepLab-v1 colours first)",
    )
    place: Literal["random", "top_left"] = Field(
        "random", description="where an image smaller than the crop stands in it"
    )
    image_fill: Literal["mean", "black"] = Field(
        "mean", description="colour around such an image; mean is 0 after normalisation"
    )
    label_fill: Literal[255, 0] = Field(
        255, description="label around such an image (MCTformer: 0, the background)"
    )
    strong: tuple[Literal["image", "whole", "local"], ...] = Field(
        (),
        description="looks with strongly changed colours, for methods that contrast views (ToCo). "
        "image: the crop itself; whole: also a random part of the original; local: also the crop",
    )
    strong_mirror: bool = Field(
        False, description="mirror every second local look, as published, though labels stay"
    )

    @model_validator(mode="after")
    def _possible(self) -> AugmentParams:
        if sorted(self.order) != ["colour", "crop", "mirror", "scale"]:
            raise ValueError("order must name scale, mirror, colour and crop once each")
        if max(map(self.order.index, ("scale", "colour"))) > self.order.index("crop"):
            raise ValueError("order must have scale and colour before crop")
        late = self.order.index("colour") > self.order.index("scale")
        if (
            late
            and self.interpolation == "bilinear_plain"
            and (self.jitter or self.hue or self.hsv or self.rand_augment)
        ):
            raise ValueError(
                "colours change on 8 bits: with interpolation bilinear_plain let order have "
                "colour before scale, or set jitter, hue and hsv to 0"
            )
        if sum(map(bool, (self.scales, self.long_side_px, self.area, self.square_px))) > 1:
            raise ValueError("scales, long_side_px, area and square_px exclude each other")
        return self

    @property
    def moves_pixels(self) -> bool:
        """Whether images are changed in a way that labels of pixels are not."""
        return bool(self.rand_augment or self.erase)


Schedule = Literal["poly", "cosine", "cosine_epochs", "milestones", "constant"]
Optimizer = Literal["sgd", "adamw"]


class PartParams(Strict):
    """A part of a network that is trained in another way than the rest; null is as the rest."""

    names: tuple[str, ...] = Field(description="patterns of the names of its weights")
    optimizer: Optimizer | None = Field(None, description="update rule")
    lr: PositiveFloat | None = Field(None, description="learning rate")
    head: tuple[str, ...] | None = Field(None, description="patterns of the names of new layers")
    head_factor: PositiveFloat | None = Field(None, description="learning rate of these over lr")
    momentum: Fraction | None = Field(None, description="momentum of sgd")
    weight_decay: Annotated[float, Field(ge=0)] | None = Field(None, description="decay of weights")
    decay_bias: bool | None = Field(None, description="biases decay as well")
    undecayed: tuple[str, ...] | None = Field(
        None, description="patterns of the names of weights that do not decay"
    )
    schedule: Schedule | None = Field(None, description="fall of the rate")


class TrainParams(Strict):
    """One training: optimiser, schedule, batches, precision."""

    epochs: PositiveInt = Field(15, description="passes over the training images")
    steps: PositiveInt | None = Field(None, description="instead of epochs: optimiser steps")
    batch: PositiveInt = Field(16, description="images per optimiser step, over all processes")
    last_batch: Literal["drop", "keep"] = Field(
        "drop", description="what becomes of an epoch's last images, if they fill no batch"
    )
    accumulate: PositiveInt = Field(1, description="parts a batch is worked off in, to save memory")
    optimizer: Optimizer = Field("adamw", description="update rule")
    lr: PositiveFloat = Field(4e-3, description="learning rate of the backbone")
    head: tuple[str, ...] = Field(
        (), description="patterns of the names of new layers; without: all outside the backbone"
    )
    head_factor: PositiveFloat = Field(1.0, description="learning rate of new layers over lr")
    head_bias_factor: PositiveFloat | None = Field(
        None, description="learning rate of their biases over lr; null is head_factor (DeepLab: 20)"
    )
    bias: tuple[str, ...] = Field(
        ("*bias",), description="patterns of the names that count as biases (SemFormer: tables too)"
    )
    bias_factor: PositiveFloat = Field(
        1.0, description="learning rate of the backbone's biases over lr (SemFormer 2)"
    )
    momentum: Fraction = Field(
        0.9, description="momentum of sgd (that of PSA's optimiser is its weight decay, by mistake)"
    )
    nesterov: bool = Field(False, description="Nesterov's momentum")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-4, description="decay of weights")
    decay_bias: bool = Field(True, description="biases decay as well (DeepLab: not)")
    frozen: tuple[str, ...] = Field(
        (), description="patterns of the names of weights that stay, such as backbone.conv1a.*"
    )
    undecayed: tuple[str, ...] = Field(
        (), description="patterns of the names of weights that do not decay, such as *pos_embed"
    )
    parts: tuple[PartParams, ...] = Field(
        (), description="parts of the network with settings, and an optimiser, of their own (CRT)"
    )
    schedule: Schedule = Field(
        "poly",
        description="fall of the rate; cosine_epochs: one rate for each epoch, from lr_first up to lr "
        "and down towards lr_last (DeiT, MCTformer, PCSS); milestones: a tenth at each (CRT)",
    )
    milestones: tuple[PositiveInt, ...] = Field(
        (), description="milestones: epochs, from 1, at each multiple of which the rate falls"
    )
    lr_first: PositiveFloat = Field(1e-6, description="cosine_epochs: rate of the first epoch")
    lr_last: PositiveFloat = Field(1e-5, description="cosine_epochs: rate after the last epoch")
    late_epochs: Annotated[int, Field(ge=0)] = Field(
        0, description="cosine_epochs: epochs by which every rate is late (MCTformer 1)"
    )
    power: PositiveFloat = Field(0.9, description="exponent of the poly schedule")
    refresh: PositiveInt = Field(1, description="steps for which a rate stays (DeepLab-v2: 10)")
    horizon: Annotated[int, Field(ge=0)] = Field(
        0, description="steps by which the schedule outlasts the training (DeepLab-v1: 1)"
    )
    warmup: Fraction = Field(0.05, description="share of the steps in which the rate rises from 0")
    warmup_start: Fraction | None = Field(
        None,
        description="factor that it rises from, and the fall counts from the first step, so that the "
        "rate drops where the rise ends (ToCo 0.000001); null: the fall begins after the rise",
    )
    clip: Annotated[float, Field(ge=0)] = Field(0.0, description="largest gradient norm; 0 is none")
    freeze_norm: bool | tuple[str, ...] = Field(
        False,
        description="keep the statistics of BatchNorm layers, as PSA and IRNet do: of all, or of "
        "those whose names match patterns, such as backbone.*",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="arithmetic; auto is bf16 on a GPU that has it, else fp32"
    )
    workers: Annotated[int, Field(ge=0)] = Field(0, description="processes that load images")
    save_seconds: PositiveInt = Field(60, description="time between two resume states")
    tensorboard: bool = Field(
        False, description="also write curves to logs/tensorboard while training"
    )

    @model_validator(mode="after")
    def _divisible(self) -> TrainParams:
        if self.batch % self.accumulate:
            raise ValueError(
                f"batch ({self.batch}) is not a multiple of accumulate ({self.accumulate})"
            )
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum):
            raise ValueError("nesterov needs optimizer sgd and momentum above 0")
        return self


# Backbones of our own with a stride that cannot be chosen: the stride, and the network whose initial
# weights they take. (IRNet began with torchvision's first ImageNet weights, timm's tv_in1k; ToCo and
# CPDGL with the ViT of the first release, not timm's present default.)
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
    "conformer_toy": (8, "conformer_toy"),
    "conformer_small_patch16": (16, "conformer_small_patch16"),
}


class NetParams(Strict):
    """The network under a head."""

    resampled: ClassVar[bool] = (
        False  # whether `stride` is that of the head, whatever the backbone's
    )

    backbone: str = Field(
        "toy",
        description="toy, resnet38 (PSA; stride 8), resnet50_irn (IRNet; stride 16), resnet152_irn (CRT), "
        "resnet101_caffe (DeepLab-v2; stride 8), vit_toy (stride 8), deit_small_patch16_224 and its "
        "like (stride 16), or any convolutional network that timm offers, such as resnet50",
    )
    weights: Literal["none", "imagenet"] = Field("none", description="initial weights")
    stride: Literal[4, 8, 16, 32] = Field(8, description="pixels per cell of the last features")

    @model_validator(mode="after")
    def _stride_fits(self) -> NetParams:
        only = FIXED.get(self.backbone, (self.stride,))[0]
        if self.stride != only and not self.resampled:
            raise ValueError(f"{self.backbone} has stride {only}: set stride to it")
        return self

    @property
    def relative(self) -> str:
        """The network whose initial weights the backbone takes."""
        return FIXED[self.backbone][1] if self.backbone in FIXED else self.backbone

    @property
    def initial(self) -> str | None:
        """The name of the initial weights, or none."""
        return None if self.weights == "none" else f"{self.relative}.{self.weights}"


class PartnerParams(NetParams):
    """The backbone of a second network that learns beside the first (CRT)."""


class BegunParams(NetParams):
    """A network under a head that can begin with a published file."""

    initial_file: str | None = Field(
        None,
        description="file with published initial weights of the backbone, instead of weights; say "
        "which, as those trained on COCO's masks have seen masks",
    )

    @model_validator(mode="after")
    def _initial_weights(self) -> BegunParams:
        if self.initial_file and self.weights != "none":
            raise ValueError("initial_file and weights exclude each other; set weights: none")
        return self


class ClassifierParams(NetParams):
    """The network that learns the image-level labels and whose maps become CAMs."""

    checkpoint: str | None = Field(
        None, description="file of published weights that are taken instead of training"
    )
    partner: PartnerParams | None = Field(
        None,
        description="a second backbone that learns beside the first, for methods with two (CRT)",
    )
    augment: AugmentParams = AugmentParams()
    train: TrainParams = TrainParams(epochs=25)
    settings: dict[str, Any] = Field({}, description="settings of the method's own; see its YAML")

    @property
    def initial(self) -> str | None:
        """The name of the initial weights, or none."""
        return None if self.checkpoint else super().initial


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
    multiple: PositiveInt = Field(
        1,
        description="stretch images at each scale to sides that are multiples of it (SemFormer 16)",
    )
    multiple_way: Literal["up", "down"] = Field(
        "up", description="or shrink them to such sides (PCSformer: down)"
    )
    long_side_px: PositiveInt | None = Field(
        None, description="long side that images are brought to before the scales (PCSformer 500)"
    )
    square_px: PositiveInt | None = Field(
        None,
        description="side of the square that images are brought to first (ToCo 448)",
    )
    joined_at: Literal["square", "image"] = Field(
        "square",
        description="where maps are joined and normalised if there is such a square; image: images go "
        "to the scales of the square directly (TransCAM)",
    )
    resize: Resize = Field("picture", description=RESIZE)
    whole_px: Literal["round", "floor"] = Field(
        "round", description="how a scaled side becomes whole (ToCo: floor)"
    )
    mirror_join: Literal["sum", "max"] = Field(
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
        return self.square_px is not None and self.joined_at == "square"


AMONG = (
    "labels that a CRF of hard labels counts, which sets how sure it is of the given one: those of "
    "the image (IRNet), or all classes (PCSformer)"
)


class ConfidentParams(Strict):
    """Which pixels of a CAM are sure enough to teach affinities."""

    unary: Literal["scores", "labels"] = Field(
        "labels",
        description="scores: the CRF sees maps and background (1-max)^a (PSA); "
        "labels: it sees thresholded labels (IRNet)",
    )
    foreground: PositiveFloat = Field(
        0.5,
        description="labels: background score above which the foreground is sure (IRNet 0.30); "
        "scores: the exponent a that gives a generous background (PSA 4)",
    )
    background: PositiveFloat = Field(
        0.2,
        description="labels: background score below which the background is sure (IRNet 0.05); "
        "scores: the exponent a that gives a meagre background (PSA 32)",
    )
    crf: CrfName = Field("irn_label", description="CRF set that snaps both to edges")
    among: Literal["present", "all"] = Field("present", description=AMONG)

    @model_validator(mode="after")
    def _ranges(self) -> ConfidentParams:
        if self.unary == "labels" and max(self.foreground, self.background) >= 1:
            raise ValueError("with unary 'labels' foreground and background are scores below 1")
        return self


def _check_labels_follow(augment: AugmentParams) -> None:
    if augment.moves_pixels:
        raise ValueError("rand_augment and erase change no labels of pixels: set them to 0 here")


class IrnParams(Strict):
    """The heads of IRN (Ahn, Cho and Kwak, CVPR 2019): boundaries and displacements."""

    edge: PositiveInt = Field(32, description="channels of each feature in the boundary head")
    displacement: Annotated[int, Field(ge=0)] = Field(
        256, description="channels of the displacement head; 0 is none (SemFormer)"
    )
    align_corners: bool = Field(
        False, description="enlarge features in the boundary head by their corners (SemFormer)"
    )


class AffinityParams(BegunParams):
    """What says which neighbouring cells belong to the same class, and its training."""

    resampled = True

    kind: Literal["affinitynet", "irn"] = Field(
        "affinitynet",
        description="affinitynet: by features of both cells (Ahn and Kwak, CVPR 2018); "
        "irn: by boundaries between them (Ahn, Cho and Kwak, CVPR 2019)",
    )
    stride: Literal[4, 8, 16, 32] = Field(
        4, description="pixels per cell of the affinity grid; irn: of the backbone's last features"
    )
    radius: Annotated[int, Field(ge=2)] = Field(
        5, description="cells further apart are not compared (PSA 5, IRNet 10)"
    )
    margin: bool = Field(
        False,
        description="leave out pairs that begin near the left, right or lower edge, as published; "
        "ten cells then have no neighbour",
    )
    reduce: Literal["middle", "corner"] = Field(
        "middle",
        description="pixel of a cell whose label is taken (IRNet: middle; PCSformer: corner)",
    )
    channels: PositiveInt | tuple[PositiveInt, ...] = Field(
        32,
        description="affinitynet: features compared from each tap of the backbone, or a number for "
        "each tap (PSA: 64, 128, 256)",
    )
    irn: IrnParams = IrnParams()
    confident: ConfidentParams = ConfidentParams()
    augment: AugmentParams = AugmentParams()
    train: TrainParams = TrainParams(epochs=8, batch=16)

    @model_validator(mode="after")
    def _labels_follow(self) -> AffinityParams:
        _check_labels_follow(self.augment)
        return self


class WalkParams(Strict):
    """Random walk that spreads a CAM along learned affinities."""

    beta: PositiveFloat = Field(
        8.0, description="exponent that sharpens affinities (PSA 8, IRNet 10)"
    )
    log2_steps: Annotated[int, Field(ge=0, le=16)] = Field(
        5, description="the walk has 2 to this power steps (PSA and IRNet: 8)"
    )
    radius: Annotated[int, Field(ge=2)] | None = Field(
        None, description="cells further apart exchange nothing; null: affinity.radius (IRNet 5)"
    )
    background: Literal["none", "constant", "power"] = Field(
        "none",
        description="a background that walks along: none (IRNet), a constant (MCTformer), or "
        "(1 - largest score) to a power (PSA)",
    )
    background_value: PositiveFloat = Field(
        16.0, description="the constant (MCTformer 0.39) or the power (PSA 16)"
    )
    normalise: Literal["class", "image", "none"] = Field(
        "class",
        description="walked maps are divided by the largest score of each class, of the image "
        "(IRNet), or not (PSA)",
    )
    pad_px: PositiveInt = Field(
        512,
        description="irn: side of the square that images are padded to, larger ones to their own "
        "size; it counts in the norms of the heads (IRNet 512)",
    )


class SaliencyParams(Strict):
    """Labels are kept where attention and saliency lead to the same (PCSformer's CSE)."""

    use: bool = Field(
        False,
        description="do so; every training image needs a saliency map, as in data.voc12.saliency",
    )
    wraps: bool = Field(
        False, description="negative scores of a CAM become strong attention, as published"
    )
    unlisted: Literal["none", "voc12"] = Field(
        "none",
        description="labels that are left out here; voc12: the 903 that PCSformer's list lacks",
    )


class PseudoParams(Strict):
    """From walked maps to pseudo labels; where a background walked along, the highest map wins."""

    source: Literal["walk", "cam"] = Field(
        "walk", description="the maps; with cam no affinities are learned and nothing walks"
    )
    threshold: Fraction = Field(
        0.45, description="background score, unless a background walked along (IRNet 0.25)"
    )
    crf: CrfName = Field("none", description="CRF set applied to the result")
    unary: Literal["scores", "labels"] = Field(
        "scores", description="what the CRF starts from: the maps, or their labels (SemFormer)"
    )
    among: Literal["present", "all"] = Field("present", description=AMONG)
    crf_picture: Literal["original", "padded"] = Field(
        "original",
        description="what the CRF sees: the file; or, as published, what the affinity network sees, "
        "filled up to whole cells and scaled back to 8 bits, most of them one too small (PCSformer)",
    )
    saliency: SaliencyParams = SaliencyParams()


class SegmenterTestParams(Strict):
    """Inference of the segmenter."""

    scales: tuple[PositiveFloat, ...] = Field((0.75, 1.0, 1.25), description="resize factors")
    mirror: bool = Field(True, description="also look at the mirrored image")
    resize: Resize = Field("picture", description=RESIZE)
    whole_px: Literal["round", "floor"] = Field(
        "round", description="how a scaled side becomes whole (MCTformer: floor)"
    )
    join: Literal["mean", "sum", "max", "max_softmax"] = Field(
        "mean", description="of all looks: mean, sum or maximum of logits, or maximum of softmax"
    )
    crf: CrfName = Field("none", description="CRF set applied to the probabilities")
    crf_picture: Literal["original", "bgr", "denormalised", "wrapped"] = Field(
        "original",
        description="what the CRF sees: the file; its channels swapped; or, as published: scaled "
        "back and cut to 8 bits (DeepLab-v1), mean-subtracted and wrapped to 8 bits (DeepLab-v2)",
    )
    batch: PositiveInt = Field(32, description="images of one size worked on together")


class DecoderParams(SegmenterTestParams):
    """Inference of the decoder of a method that learns masks by itself (ToCo, SeCo, CPDGL)."""

    square_px: PositiveInt | None = Field(
        None, description="side of the square that scales are of, instead of the image (CPDGL 448)"
    )
    square_first: bool = Field(
        False, description="images are brought to that square before its scales (ToCo on COCO)"
    )
    mirror_join: Literal["join", "sum", "max"] = Field(
        "join", description="of an image and its mirror image; join: as of the scales"
    )


class SegmenterParams(BegunParams):
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


class EvaluationParams(Strict):
    """How predictions are scored; kept beside every number."""

    seed_threshold: Fraction = Field(0.4, description="background score of the reported seed")
    thresholds: Annotated[int, Field(ge=10, le=1000)] = Field(
        100, description="points of the threshold curve, k / thresholds for k = 0, 1, ..."
    )
    convention: Literal["A", "B", "C", "D"] = Field(
        "A",
        description="classes averaged. A: in truth or prediction (IRNet, CRT); B: in the truth "
        "(DeepLab-v2, ToCo, CPDGL); C: all, absent ones count as 0 (SEAM, MCTformer, PCSformer, "
        "PCSS, SemFormer); D: as A (MCTformer's segmentation)",
    )
    unlabelled: Literal["background", "missed", "excluded"] = Field(
        "background",
        description="what a predicted 255 is. background (IRNet, CRT); missed: of no class "
        "(MCTformer, PCSformer, PCSS, SemFormer); excluded: not counted, which flatters (ToCo)",
    )
    erode_px: Annotated[int, Field(ge=0)] = Field(
        0,
        description="side of the square that cuts every class of a seed or walked map before it "
        "is scored; 0 is none (SemFormer 7)",
    )


class LocalizationParams(Strict):
    """Boxes of objects from class maps, for methods that localize instead of segmenting."""

    threshold: Fraction = Field(
        0.1, description="share of a map's range above which the box lies (CUB 0.1, ILSVRC 0.12)"
    )
    batch: PositiveInt = Field(64, description="images worked on together")


class ReportParams(Strict):
    """What the report shows."""

    panels: PositiveInt = Field(8, description="images in the qualitative panel of a run")


class Override(Strict):
    """Settings for the runs that match; an absent condition matches every run."""

    dataset: str | None = Field(None, description="only this dataset")
    method: str | None = Field(None, description="only this method")
    protocol: Literal["published", "common"] | None = Field(None, description="only this protocol")
    set: dict[str, Any] = Field(description="sections to change, as in params.yaml")


class Selection(Strict):
    """Which runs there are, and the data they use."""

    datasets: tuple[str, ...] = Field(
        ("shapes",), description="shapes, stamps, voc12, coco14, cub or a name in data.csv"
    )
    methods: tuple[str, ...] = Field(
        ("cam", "supervised"), description="what to run; `wsss methods`"
    )
    protocols: tuple[Literal["published", "common"], ...] = Field(
        ("common",), description="common: all methods alike; published: as each paper did"
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0,), description="one run for each seed"
    )
    shards: PositiveInt = Field(
        1, description="parts that inference is split into; no effect on results"
    )
    data: DataParams = DataParams()


class RunSections(Strict):
    """The settings of the stages of one run."""

    classifier: ClassifierParams = ClassifierParams()
    cam: CamParams = CamParams()
    affinity: AffinityParams = AffinityParams()
    walk: WalkParams = WalkParams()
    pseudo: PseudoParams = PseudoParams()
    segmenter: SegmenterParams = SegmenterParams()
    decoder: DecoderParams = DecoderParams()
    evaluation: EvaluationParams = EvaluationParams()
    localization: LocalizationParams = LocalizationParams()


class Params(RunSections, Selection):
    """Everything in params.yaml."""

    report: ReportParams = ReportParams()
    overrides: tuple[Override, ...] = Field((), description="settings for some runs only")
