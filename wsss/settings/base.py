"""The base of all settings, and the named sets of CRF parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

RawSettings = dict[str, Any]  # nested settings as a YAML file holds them, not validated
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Item = TypeVar("Item")


def as_list(value: object) -> object:
    """Return a single value as a list of one, as `--config seeds=3` gives it; other values as they are."""
    is_single = isinstance(value, int | float | str) and not isinstance(value, bool)
    return (value,) if is_single and value != "" else value


ListOf = Annotated[tuple[Item, ...], BeforeValidator(as_list)]  # a single value is a list of one
Calibrated = Literal["calibrated"]  # a threshold that the stage `calibrate` chooses
CALIBRATED: Calibrated = "calibrated"


@dataclass(frozen=True)
class CrfSet:
    """Parameters of a CRF with two kernels.

    position_px, position_weight: width, in pixels, and weight of the smoothing kernel.
    pair_px, pair_grey, pair_weight: widths, in pixels and in grey levels of 255, and weight of the
    bilateral kernel.
    iterations: mean-field updates.
    """

    position_px: float
    position_weight: float
    pair_px: float
    pair_grey: float
    pair_weight: float
    iterations: int


# The sets that published code uses. The labels of any two sets differ in 2 to 23 % of an image.
CRF_SETS = {
    "psa": CrfSet(3, 3, 80, 13, 10, 10),  # AffinityNet's label generation
    "irn_label": CrfSet(3, 3, 50, 5, 10, 10),  # IRNet's relation labels
    "irn_label_once": CrfSet(3, 3, 50, 5, 10, 1),  # SemFormer, pseudo labels
    "deeplab_msc": CrfSet(1, 3, 67, 3, 4, 10),  # deeplab-pytorch
    "crt_dlv1": CrfSet(3, 3, 121, 5, 4, 10),  # CRT, DeepLab-v1 configurations
    "crt_vgg_v2": CrfSet(2, 2, 65, 3, 4, 10),  # CRT, VGG DeepLab-v2
    "toco_seg": CrfSet(1, 1, 121, 5, 4, 10),  # ToCo, segmentation
    "toco_cam": CrfSet(3, 3, 36, 3, 4, 10),  # ToCo, CAM to label
    "weclip_seg": CrfSet(3, 3, 64, 5, 4, 10),  # WeCLIP, segmentation
    "mctformer_seg": CrfSet(4, 3, 83, 5, 3, 10),  # MCTformer, segmentation
    "codebase": CrfSet(3, 3, 32, 13, 10, 1),  # DeepLab-v1 ResNet-38, v3+
}
CrfName = Literal[("none", *CRF_SETS)]  # type: ignore[valid-type]  # made from the table


class Strict(BaseModel):
    """Base of all settings: unknown keys are errors, values do not change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def merge(base: Mapping[str, object], over: Mapping[str, object]) -> RawSettings:
    """Return `base` with `over` laid on it: mappings are merged key by key, other values replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged
