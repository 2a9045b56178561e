"""Scores, reports, and the whole of the parameters."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from wsss.settings.base import Fraction, Strict
from wsss.settings.cams import CamParams
from wsss.settings.data import DataParams
from wsss.settings.networks import ClassifierParams
from wsss.settings.refinement import AffinityParams, PseudoParams, WalkParams
from wsss.settings.segmenter import DecodeParams, SegmenterParams


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


class BoxesParams(Strict):
    """Boxes of objects from class maps, for methods that localize instead of segmenting."""

    threshold: Fraction = Field(
        0.1, description="share of a map's range above which the box lies (CUB 0.1, ILSVRC 0.12)"
    )
    batch: PositiveInt = Field(64, description="images worked on together")


class ReportParams(Strict):
    """What the report shows."""

    panels: PositiveInt = Field(8, description="images in the qualitative panel of a run")
    gallery_px: Annotated[int, Field(ge=32)] = Field(
        384, description="longest side of a picture of the gallery; larger ones are reduced"
    )
    boundary_px: Annotated[int, Field(ge=0)] = Field(
        3,
        description="wrong pixels no further than this from another true label are mistakes at a "
        "boundary (trimaps of Kohli et al., IJCV 2009)",
    )


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
    methods_path: tuple[str, ...] = Field(
        (), description="folders with methods of your own (docs/add-a-method.md)"
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
    decode: DecodeParams = DecodeParams()
    evaluation: EvaluationParams = EvaluationParams()
    boxes: BoxesParams = BoxesParams()


class Params(RunSections, Selection):
    """Everything in params.yaml."""

    report: ReportParams = ReportParams()
    overrides: dict[str, Override] = Field(
        {},
        description="settings for some runs only, each under a name, later ones over earlier ones",
    )
