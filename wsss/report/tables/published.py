"""The numbers of the papers with their sources, and the one that a result is compared with."""

from __future__ import annotations

import functools
from dataclasses import dataclass
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
        description="the scored stage; seed-pc: the seed of the network pc, which is not the last",
    )
    split: Literal["train", "aug", "val", "test"]
    miou: float = Field(gt=0, lt=100, description="in %, as printed")


class Localized(Strict):
    """Localization scores of a paper: shares of the images, in %, as printed."""

    dataset: Literal["cub"]
    split: Literal["val"] = Field(description="val has CUB's test images")
    top1: float
    top5: float
    gt_known: float


class Paper(Strict):
    """The numbers that one paper reports for one choice of networks."""

    method: str
    paper: str
    source: str
    backbone: str | None = Field(None, description="backbone of the classifier; none if not stated")
    extra: str = Field(
        min_length=1,
        description="knowledge beyond ImageNet-1k weights and image labels, as the sources say; none "
        "stated: they name image labels and no more",
    )
    values: tuple[Value, ...] = ()
    localization: tuple[Localized, ...] = ()


@dataclass(frozen=True)
class Reference:
    """A published mIoU with its paper."""

    value: Value
    paper: Paper

    @property
    def words(self) -> str:
        """The paper and the source of the number."""
        return _words(self.paper)


@dataclass(frozen=True)
class LocalizationReference:
    """Published localization scores with their paper."""

    scores: Localized
    paper: Paper

    @property
    def words(self) -> str:
        """The paper and the source of the numbers."""
        return _words(self.paper)


def _words(paper: Paper) -> str:
    return f"{paper.paper}; {paper.source}; extra knowledge: {paper.extra}"


@functools.cache
def papers() -> tuple[Paper, ...]:
    """Return every entry of `published.yaml`."""
    content = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    return tuple(Paper.model_validate(entry) for entry in content)


def find(method: str, dataset: str, stage: str, split: str, backbone: str) -> Reference | None:
    """Return the published number for a result, or None.

    If a method has several entries, only one with the same backbone is comparable.
    """
    references = [
        Reference(value, paper)
        for paper in papers()
        if paper.method == method
        for value in paper.values
        if (value.dataset, value.stage, value.split) == (dataset, stage, split)
    ]
    same = [reference for reference in references if reference.paper.backbone == backbone]
    return next(iter(same if len(references) > 1 else references), None)


def find_localization(method: str, dataset: str) -> LocalizationReference | None:
    """Return the published scores of a method that localizes, or None."""
    return next(
        (
            LocalizationReference(scores, paper)
            for paper in papers()
            if paper.method == method
            for scores in paper.localization
            if scores.dataset == dataset
        ),
        None,
    )
