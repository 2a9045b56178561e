"""Every number that a person may change: typed, with its default, its reason and its source.

The defaults here are the ones of `params.yaml` (the embedded demo); `wsss params --write` renders
that file from this one. Larger experiments are presets in `params/`, merged over it.
"""

from wsss.settings.base import Strict
from wsss.settings.cams import CamParams
from wsss.settings.data import (
    CocoParams,
    CsvParams,
    CubParams,
    DataParams,
    ShapesParams,
    StampsParams,
    VocParams,
)
from wsss.settings.networks import (
    FIXED,
    AuxiliaryCnnParams,
    ClassifierParams,
    HyperParameters,
    MethodNetworkParams,
    PretrainedParams,
)
from wsss.settings.params import EvaluationParams, Params, RunSections
from wsss.settings.refinement import (
    AffinityParams,
    ConfidentParams,
    IrnParams,
    PseudoParams,
    SaliencyParams,
    WalkParams,
)
from wsss.settings.segmenter import DecodeParams, SegmenterParams, SegmenterTestParams
from wsss.settings.training import AugmentParams, PartParams, TrainParams

__all__ = [
    "AffinityParams",
    "AugmentParams",
    "PretrainedParams",
    "CamParams",
    "ClassifierParams",
    "CocoParams",
    "ConfidentParams",
    "CsvParams",
    "CubParams",
    "DataParams",
    "DecodeParams",
    "EvaluationParams",
    "FIXED",
    "HyperParameters",
    "IrnParams",
    "MethodNetworkParams",
    "Params",
    "PartParams",
    "AuxiliaryCnnParams",
    "PseudoParams",
    "RunSections",
    "SaliencyParams",
    "SegmenterParams",
    "SegmenterTestParams",
    "ShapesParams",
    "StampsParams",
    "Strict",
    "TrainParams",
    "VocParams",
    "WalkParams",
]
