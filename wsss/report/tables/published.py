"""The papers' own numbers, each with its source, and which of them a result may stand beside."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from wsss.settings import Strict

PATH = Path(__file__).with_suffix(".yaml")


class Value(Strict):
    """One number of a paper."""

    dataset: Literal["voc12", "coco14"]
    stage: str = Field(
        pattern=r"^(seed(-\w+)?|decode|pseudo|segmentation)$",
        description="what is scored; seed-pc: of the network pc, which is not the last",
    )
    split: Literal["train", "aug", "val", "test"]
    miou: float = Field(gt=0, lt=100, description="in %, as printed")


class Localized(Strict):
    """Shares of images of a paper, in %, as printed."""

    dataset: Literal["cub"]
    split: Literal["val"] = Field(description="val has CUB's test images")
    top1: float
    top5: float
    gt_known: float


class Paper(Strict):
    """What one paper, with one choice of networks, reports."""

    method: str
    paper: str
    source: str
    backbone: str | None = Field(None, description="of the classifier; none where not stated")
    extra: str = Field("", description="knowledge beyond ImageNet-1k weights and image labels")
    values: tuple[Value, ...] = ()
    localization: tuple[Localized, ...] = ()


@functools.cache
def papers() -> tuple[Paper, ...]:
    """Return every entry of `published.yaml`."""
    content = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    return tuple(Paper.model_validate(entry) for entry in content)


def find(
    method: str, dataset: str, stage: str, split: str, backbone: str
) -> tuple[Value, Paper] | None:
    """Return the published number for a result, or none.

    Of several entries of a method only one with the same backbone is comparable.
    """
    found = [
        (value, paper)
        for paper in papers()
        if paper.method == method
        for value in paper.values
        if (value.dataset, value.stage, value.split) == (dataset, stage, split)
    ]
    same = [pair for pair in found if pair[1].backbone == backbone]
    return next(iter(same if len(found) > 1 else found), None)


def find_localization(method: str, dataset: str) -> tuple[Localized, Paper] | None:
    """Return the published shares of a method that localizes, or none."""
    return next(
        (
            (shares, paper)
            for paper in papers()
            if paper.method == method
            for shares in paper.localization
            if shares.dataset == dataset
        ),
        None,
    )
