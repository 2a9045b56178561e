"""What all settings are made of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from wsss.crf import CRF_SETS

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
CrfName = Literal[("none", *CRF_SETS)]  # type: ignore[valid-type]  # literal made from the table


class Strict(BaseModel):
    """Base of all settings: unknown keys are errors, values do not change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
