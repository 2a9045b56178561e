"""From CAMs to pseudo labels: affinities, walk, CRF, saliency."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from wsss.settings.base import CrfName, Fraction, Strict
from wsss.settings.networks import PretrainedParams
from wsss.settings.training import AugmentParams, TrainParams

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
    crf_classes: Literal["present", "all"] = Field("present", description=AMONG)

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

    edge_channels: PositiveInt = Field(
        32, description="channels of each feature in the boundary head"
    )
    displacement_channels: Annotated[int, Field(ge=0)] = Field(
        256, description="channels of the displacement head; 0 is none (SemFormer)"
    )
    align_corners: bool = Field(
        False, description="enlarge features in the boundary head by their corners (SemFormer)"
    )


class AffinityParams(PretrainedParams):
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
    label_cell: Literal["centre", "corner"] = Field(
        "centre",
        description="pixel of a cell whose label is taken (IRNet: centre; PCSformer: corner)",
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
    damp: bool = Field(
        True,
        description="irn: maps are multiplied by 1 - boundary before they walk, as IRNet's are; "
        "boundaries that fill small objects erase them",
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
    wrap_negative: bool = Field(
        False, description="negative scores of a CAM become strong attention, as published"
    )
    missing_labels: Literal["none", "voc12"] = Field(
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
    crf_classes: Literal["present", "all"] = Field("present", description=AMONG)
    crf_picture: Literal["original", "padded"] = Field(
        "original",
        description="what the CRF sees: the file; or, as published, what the affinity network sees, "
        "filled up to whole cells and scaled back to 8 bits, most of them one too small (PCSformer)",
    )
    saliency: SaliencyParams = SaliencyParams()
