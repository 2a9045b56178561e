"""Scores, boxes and reports, and the model of a whole parameter file."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from wsss.settings import method_spec
from wsss.settings.base import CALIBRATED, Calibrated, Fraction, ListOf, RawSettings, Strict
from wsss.settings.cams import CamParams
from wsss.settings.data import DataParams
from wsss.settings.imports import ImportParams
from wsss.settings.method_spec import MethodSpec
from wsss.settings.networks import ClassifierParams
from wsss.settings.refinement import AffinityParams, CrfParams, PseudoParams, WalkParams
from wsss.settings.segmenter import DecodeParams, SegmenterParams
from wsss.settings.variants import Variant, expanded


class CalibrationParams(Strict):
    """How thresholds that are `calibrated` are chosen, under `common`; `calibration: none` is short."""

    by: Literal["masks", "none"] = Field(
        "masks",
        description="masks: the best mIoU on some training images that have masks, which then count in no "
        "score of training images; none: the method's published thresholds",
    )
    images: PositiveInt = Field(
        100,
        description="number of these images, at most a quarter of the training images with masks",
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"by": value} if isinstance(value, str) else value


class EvaluationParams(Strict):
    """How predictions are scored; stored beside every number."""

    seed_threshold: Fraction | Calibrated = Field(
        CALIBRATED,
        description="background score of the seed that is reported; calibrated: the best one for the CAMs",
    )
    thresholds: Annotated[int, Field(ge=10, le=1000)] = Field(
        100, description="number n of points of the threshold curve, at k / n for k = 0, 1, ..."
    )
    convention: Literal["A", "B", "C", "D"] = Field(
        "A",
        description="classes that the mean IoU averages over. A: classes in the ground truth or the "
        "prediction (IRNet, CRT); B: classes in the ground truth (DeepLab-v2, ToCo, CPDGL); "
        "C: all classes, absent ones count as 0 (SEAM, MCTformer, PCSformer, PCSS, "
        "SemFormer); D: as A (MCTformer's segmentation)",
    )
    unlabelled: Literal["background", "missed", "excluded"] = Field(
        "background",
        description="meaning of a predicted 255. background (IRNet, CRT); missed: a pixel of no class "
        "(MCTformer, PCSformer, PCSS, SemFormer); excluded: a pixel that is not counted, "
        "which flatters (ToCo)",
    )
    erode_px: Annotated[int, Field(ge=0)] = Field(
        0,
        description="side, in pixels, of the square that erodes every class of a seed or walked map "
        "before it is scored; 0: no erosion (SemFormer: 7)",
    )


class BoxesParams(Strict):
    """Boxes from class maps, for methods that localize objects instead of segmenting."""

    threshold: Fraction = Field(
        0.1,
        description="share of a map's range above which a pixel belongs to the box (CUB: 0.1, ILSVRC: "
        "0.12)",
    )
    batch: PositiveInt = Field(64, description="images in one forward pass")


class ReportParams(Strict):
    """What the report shows."""

    panels: PositiveInt = Field(8, description="number of images in the panel of a run")
    gallery_px: Annotated[int, Field(ge=32)] = Field(
        384,
        description="longest side of a picture in the gallery, in pixels; larger pictures are reduced",
    )
    boundary_px: Annotated[int, Field(ge=0)] = Field(
        3,
        description="a wrong pixel counts as a boundary mistake if its distance to another true label is "
        "at most this number of pixels (trimaps of Kohli et al., IJCV 2009)",
    )


class Override(Strict):
    """Settings for the runs that match all conditions; an absent condition matches every run."""

    dataset: str | None = Field(None, description="only runs on this dataset")
    method: str | None = Field(None, description="only runs of this method")
    protocol: Literal["published", "common"] | None = Field(
        None, description="only runs of this protocol"
    )
    set: RawSettings = Field(
        description="sections to change, as in params.yaml, and `networks` for one network of a chain"
    )


class RunSelection(Strict):
    """Which runs there are, and the data that they use."""

    preset: str | None = Field(
        None,
        description="experiment of params/, such as voc12, that lies below this file's changed lines",
    )
    datasets: ListOf[str] = Field(
        ("shapes",),
        description="datasets to run on: shapes, stamps, voc12, coco14, cub, or names in data.csv",
    )
    methods: ListOf[str] = Field(
        ("cam", "supervised"), description="methods to run; `wsss methods` lists them"
    )
    methods_path: ListOf[str] = Field(
        (), description="folders with methods of your own (docs/add-a-method.md)"
    )
    protocols: ListOf[Literal["published", "common"]] = Field(
        ("common",), description="common: all methods alike; published: each method as in its paper"
    )
    seeds: ListOf[Annotated[int, Field(ge=0)]] = Field(
        (0,), description="random seeds; one run for each"
    )
    shards: PositiveInt = Field(
        1, description="number of parts that inference is split into; results do not depend on it"
    )
    results: str = Field(
        "results", description="folder of tables, figures and panels; a preset has its own"
    )
    data: DataParams = DataParams()

    @field_validator("results")
    @classmethod
    def _folder(cls, name: str) -> str:
        """Refuse a name that is no plain path, or that lies among the runs."""
        if not re.fullmatch(r"[\w./+-]+", name) or Path(name).parts[:1] in ((), ("work",)):
            raise ValueError(
                "write a folder such as results/mine, of letters, digits and ./+-_, and not in work/"
            )
        return name


class RunSections(Strict):
    """The sections of settings that the stages of a run read."""

    classifier: ClassifierParams = ClassifierParams()
    cam: CamParams = CamParams()
    affinity: AffinityParams = AffinityParams()
    walk: WalkParams = WalkParams()
    pseudo: PseudoParams = PseudoParams()
    crf: CrfParams = CrfParams()
    segmenter: SegmenterParams = SegmenterParams()
    decode: DecodeParams = DecodeParams()
    calibration: CalibrationParams = CalibrationParams()
    evaluation: EvaluationParams = EvaluationParams()
    boxes: BoxesParams = BoxesParams()


class Params(RunSections, RunSelection):
    """All settings that params.yaml and the files over it may hold."""

    report: ReportParams = ReportParams()
    overrides: dict[str, Override] = Field(
        {},
        description="settings for some runs only, each under a name; later ones are laid over earlier "
        "ones",
    )
    variants: dict[str, Variant] = Field(
        {},
        description="methods with changed settings, each under a name, with runs beside their base's",
    )

    imports: dict[str, ImportParams] = Field(
        {},
        description="results of other programs, each under a name that `methods` may hold (docs/import.md)",
    )

    @cached_property
    def all_variants(self) -> dict[str, Variant]:
        """The variants by name, grids expanded."""
        return expanded(self.variants)

    def base(self, method: str) -> str:
        """Return the method that a variant changes; any other name as it is."""
        variant = self.all_variants.get(method)
        return variant.method if variant else method

    def spec(self, method: str) -> MethodSpec:
        """Return the description of a method, of the base of a variant, or of an import.

        Raises:
            ConfigError: there is no such method, or its YAML file does not describe one.
        """
        base = self.base(method)
        imported = self.imports.get(base)
        return imported.spec(base) if imported else method_spec.spec(base, self.methods_path)

    @property
    def run_methods(self) -> tuple[str, ...]:
        """The methods to run, each with its variants behind it; a variant may be named instead."""
        names = {
            name: None
            for method in self.methods
            for name in (method, *(v for v in self.all_variants if self.base(v) == method))
        }
        return tuple(names)

    def runs_under(self, method: str, protocol: str) -> bool:
        """Return whether a method or variant has runs of a protocol, as far as a variant says."""
        variant = self.all_variants.get(method)
        return variant is None or variant.protocol in (None, protocol)
