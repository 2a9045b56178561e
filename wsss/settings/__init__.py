"""Every number that a person may change: typed, with its default, its meaning and its source.

The defaults are those of the embedded demo. `wsss params --write` renders `params.yaml` from these
classes; larger experiments are presets in `params/`, laid over it.
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
    AffinityLabelParams,
    AffinityParams,
    CrfParams,
    FrozenParams,
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
    "AffinityLabelParams",
    "CrfParams",
    "CsvParams",
    "CubParams",
    "DataParams",
    "DecodeParams",
    "EvaluationParams",
    "FIXED",
    "FrozenParams",
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
