"""From CAMs to pseudo labels: affinity labels, affinity network, random walk, CRF, saliency."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from wsss.settings.base import CALIBRATED, Calibrated, CrfName, Fraction, Strict
from wsss.settings.networks import PretrainedParams
from wsss.settings.training import AugmentParams, TrainParams

COMPLEMENT_THRESHOLD = 0.5  # 1 - m > m exactly where m is below it
CRF_CLASSES = (
    "number of classes that a CRF of hard labels assumes; it sets how sure the CRF is of "
    "the given label. present: the classes of the image (IRNet); all: all classes "
    "(PCSformer)"
)


class AffinityLabelParams(Strict):
    """Which pixels of a CAM are sure enough to become affinity labels."""

    unary: Literal["scores", "labels"] = Field(
        "labels",
        description="input of the CRF. scores: the class maps and a background (1 - max)^a (PSA); labels: "
        "labels by threshold (IRNet)",
    )
    foreground: PositiveFloat | Calibrated = Field(
        CALIBRATED,
        description="for unary labels: background score above which a pixel counts as sure foreground "
        "(IRNet: 0.30), calibrated: 0.15 above the best threshold of the CAMs; for unary scores: the "
        "exponent a of a wide background (PSA: 4)",
    )
    background: PositiveFloat | Calibrated = Field(
        CALIBRATED,
        description="for unary labels: background score below which a pixel counts as sure background "
        "(IRNet: 0.05), calibrated: 0.10 below the best threshold of the CAMs; for unary scores: the "
        "exponent a of a narrow background (PSA: 32)",
    )
    crf: CrfName = Field(
        "irn_label",
        description="CRF set that moves the borders of the labels to edges of the image",
    )
    crf_classes: Literal["present", "all"] = Field("present", description=CRF_CLASSES)

    @model_validator(mode="after")
    def _ranges(self) -> AffinityLabelParams:
        numbers = [v for v in (self.foreground, self.background) if not isinstance(v, str)]
        if self.unary == "labels" and any(number >= 1 for number in numbers):
            raise ValueError("with unary 'labels' foreground and background are scores below 1")
        if self.unary == "scores" and len(numbers) < 2:
            raise ValueError("with unary 'scores' foreground and background are exponents: numbers")
        return self


class IrnParams(Strict):
    """The heads of IRN (Ahn, Cho and Kwak, CVPR 2019): boundaries and displacements."""

    edge_channels: PositiveInt = Field(
        32, description="channels that each backbone feature is reduced to in the boundary head"
    )
    displacement_channels: Annotated[int, Field(ge=0)] = Field(
        256, description="channels of the displacement head; 0: no displacement head (SemFormer)"
    )
    align_corners: bool = Field(
        False, description="align corners when the boundary head enlarges features (SemFormer)"
    )


class FrozenParams(Strict):
    """Affinities from the features of a network that nobody trains (kind frozen)."""

    layers: tuple[int, ...] | None = Field(
        None,
        description="numbers of the backbone's feature maps that are compared, the finest is 0, the last "
        "-1; of a transformer: numbers of its blocks. null: the finest of a convolutional network, the "
        "last of a transformer",
    )
    enlarge: PositiveFloat = Field(
        2.0, description="factor by which images are enlarged for the network"
    )
    unit: PositiveFloat | Literal["measured"] = Field(
        "measured",
        description="distance (1 - cosine of the features) at which the affinity is 1/e before walk.beta "
        "sharpens it. measured: 1.6 times the geometric mean of the distances of adjacent cells in some "
        "training images; or a number",
    )
    images: PositiveInt = Field(100, description="number of these images")
    colours: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="weight of the squared distance of the colours of two cells, in [0, 1] per channel, "
        "which is added to the distance of the features in its unit; 0: colours are not compared",
    )

    @model_validator(mode="after")
    def _some_layer(self) -> FrozenParams:
        if self.layers is not None and not self.layers:
            raise ValueError("layers names no feature map: name at least one, or write null")
        return self


class AffinityParams(PretrainedParams):
    """The network that says which neighbouring cells belong together, and its training."""

    resampled = True

    kind: Literal["affinitynet", "irn", "frozen"] = Field(
        "affinitynet",
        description="affinitynet: affinity from the features of two cells (Ahn and Kwak, CVPR 2018); irn: "
        "affinity from the boundaries between them (Ahn, Cho and Kwak, CVPR 2019); frozen: affinity from "
        "the initial weights, nothing is trained and no affinity labels are made (docs/frozen-affinity.md)",
    )
    stride: Literal[4, 8, 16, 32] = Field(
        4,
        description="image pixels per cell of the affinity grid; for irn: per cell of the backbone's last "
        "features",
    )
    radius: Annotated[int, Field(ge=2)] = Field(
        5,
        description="largest distance, in cells, of two cells that are compared in training (PSA: 5, "
        "IRNet: 10)",
    )
    margin: bool = Field(
        False,
        description="as published, skip pairs that begin near the left, right or lower edge; ten cells "
        "then have no neighbour",
    )
    label_cell: Literal["centre", "corner"] = Field(
        "centre",
        description="pixel whose label a cell takes (IRNet: centre; PCSformer: corner)",
    )
    channels: PositiveInt | tuple[PositiveInt, ...] = Field(
        32,
        description="affinitynet: channels that each backbone feature is reduced to, or one number per "
        "feature (PSA: 64, 128, 256)",
    )
    irn: IrnParams = IrnParams()
    frozen: FrozenParams = FrozenParams()
    confident: AffinityLabelParams = AffinityLabelParams()
    augment: AugmentParams = AugmentParams()
    train: TrainParams = TrainParams(epochs=8, batch=16)

    @model_validator(mode="after")
    def _labels_follow(self) -> AffinityParams:
        self.augment.check_pixel_labels()
        return self

    @model_validator(mode="after")
    def _frozen_is_not_trained(self) -> AffinityParams:
        if self.kind == "frozen" and self.checkpoint:
            raise ValueError(
                "checkpoint is for a trained affinity network; with kind frozen set weights or initial_file"
            )
        return self

    @property
    def is_trained(self) -> bool:
        """Whether the run trains this network, so affinity labels are made."""
        return self.kind != "frozen" and not self.checkpoint


class WalkParams(Strict):
    """Random walk that spreads a CAM along learned affinities."""

    beta: PositiveFloat = Field(
        8.0, description="exponent that sharpens affinities (PSA: 8, IRNet: 10)"
    )
    log2_steps: Annotated[int, Field(ge=0, le=16)] = Field(
        5, description="logarithm to base 2 of the number of steps (PSA and IRNet: 8)"
    )
    radius: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="largest distance, in cells, over which scores are exchanged; null: affinity.radius "
        "(IRNet: 5)",
    )
    background: Literal["none", "constant", "power"] = Field(
        "none",
        description="background map that walks with the class maps. none (IRNet); constant: the same "
        "score everywhere (MCTformer); power: (1 - largest score) to a power (PSA)",
    )
    background_value: PositiveFloat = Field(
        16.0, description="the constant score (MCTformer: 0.39) or the exponent (PSA: 16)"
    )
    normalise: Literal["class", "image", "none"] = Field(
        "class",
        description="divisor of the walked maps. class: the largest score of each class; image: the "
        "largest score of the image (IRNet); none: maps are not divided (PSA)",
    )
    damp: bool = Field(
        True,
        description="irn: multiply class maps by 1 - boundary before the walk, as IRNet does; boundaries "
        "that fill small objects erase them",
    )
    pad_px: PositiveInt = Field(
        512,
        description="irn: side, in pixels, of the square that images are padded to; a larger image keeps "
        "its size. The padding affects the norm layers of the heads (IRNet: 512)",
    )


class SaliencyParams(Strict):
    """Keep labels only where attention and saliency agree (PCSformer's CSE)."""

    use: bool = Field(
        False,
        description="keep labels only where attention and saliency agree; every training image needs a "
        "saliency map, see data.DATASET.saliency",
    )
    wrap_negative: bool = Field(
        False, description="as published, treat negative scores of a CAM as strong attention"
    )
    missing_labels: Literal["none", "voc12"] = Field(
        "none",
        description="images that get no label. none: every image gets one; voc12: leave out the 903 "
        "images that PCSformer's list lacks",
    )


class CrfParams(Strict):
    """Where the CRFs of a run are computed; the stages that use one name its set."""

    device: Literal["auto", "cpu", "gpu"] = Field(
        "auto",
        description="where CRFs run. auto: in PyTorch on a GPU where there is one, else in pydensecrf; cpu: "
        "in pydensecrf, and jobs of labels ask for no GPU; gpu: on a GPU, or the stage stops. PAR of pseudo "
        "labels runs in PyTorch at the same place. Labels of the two differ in less than 0.1 % of the pixels, so nothing is made again when this changes",
    )


class PseudoParams(Strict):
    """From maps to pseudo labels; if a background walked along, the highest map wins."""

    source: Literal["walk", "cam"] = Field(
        "walk",
        description="maps that become pseudo labels. walk: walked maps; cam: CAMs, so no affinity network "
        "is trained",
    )
    threshold: Fraction | Calibrated = Field(
        CALIBRATED,
        description="background score; not used if a background walked along (IRNet: 0.25). calibrated: "
        "the best one for the maps",
    )
    par: Annotated[int, Field(ge=0, le=1000)] = Field(
        0,
        description="iterations of PAR, which spreads scores to pixels of like colour before labels are decided; "
        "0: none (WeCLIP, ExCEL: 20)",
    )
    crf: CrfName = Field("none", description="CRF set that is applied to the result")
    unary: Literal["scores", "labels"] = Field(
        "scores", description="input of the CRF. scores: the maps; labels: their labels (SemFormer)"
    )
    crf_classes: Literal["present", "all"] = Field("present", description=CRF_CLASSES)
    background: Literal["threshold", "complement"] = Field(
        "threshold",
        description="background map, unless one walked along. threshold: the threshold everywhere; complement: "
        "1 - the highest score, which gives CRF and PAR more to go by (CLIP-ES). Without both it amounts to "
        "the threshold 0.5, which must be set",
    )
    confident: Fraction | None = Field(
        None,
        description="probability below which a pixel gets no label after the CRF; null: every pixel gets one "
        "(CLIP-ES: 0.95)",
    )
    crf_picture: Literal["original", "padded", "wrapped"] = Field(
        "original",
        description="image that guides the CRF. original: the file; padded: the affinity network's input, "
        "padded to whole cells and scaled back to 8 bits, where most values are one too "
        "small, as published (PCSformer); wrapped: blue first, less a mean colour, where values below it "
        "become bright, as published (CLIP-ES)",
    )
    saliency: SaliencyParams = SaliencyParams()
    regions: str | None = Field(
        None,
        description="archive or folder with binary masks of regions, NAME.npz for each training image, "
        "that pseudo labels are snapped to (SEPL; docs/regions.md)",
    )

    @property
    def is_refined(self) -> bool:
        """Whether a CRF or PAR refines the labels."""
        return self.crf != "none" or self.par > 0

    @model_validator(mode="after")
    def _complement_has_its_threshold(self) -> PseudoParams:
        if self.background == "complement" and self.threshold != COMPLEMENT_THRESHOLD:
            raise ValueError(
                "background 'complement' leaves out the same pixels as a threshold of 0.5: set threshold to 0.5"
            )
        return self

    @model_validator(mode="after")
    def _one_refinement(self) -> PseudoParams:
        if self.par and self.crf != "none":
            raise ValueError("par and crf exclude each other: set par to 0, or crf to none")
        return self

    @model_validator(mode="after")
    def _confidence_has_a_crf(self) -> PseudoParams:
        if self.confident is not None and self.crf == "none":
            raise ValueError(
                "confident is a probability after the CRF: set crf, or confident to null"
            )
        return self
