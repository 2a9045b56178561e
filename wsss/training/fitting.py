"""Which settings a published checkpoint would fit: backbone, size of the crop, number of classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from wsss.errors import WsssError
from wsss.nets.build import build_backbone, published_layout
from wsss.nets.vit import SHAPES
from wsss.settings import FIXED, AffinityParams, MethodNetworkParams, SegmenterParams
from wsss.storage.checkpoint import Attempt, Layout, Published

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet101s")
MOST_CLASSES = 2000
MOST_CHOICES = 12  # of one setting
EXTRA_TOKENS = (0, 1, 2)  # tokens of a transformer that are neither patches nor classes


@dataclass(frozen=True)
class Choice:
    """The settings that decide which tensors a network has. classes: number without background."""

    backbone: str
    crop_px: int
    classes: int


Settings = TypeVar("Settings", MethodNetworkParams, AffinityParams, SegmenterParams)
Build = Callable[[Choice], tuple[nn.Module, Layout]]


def changed(params: Settings, choice: Choice) -> Settings:
    """Return the settings of a network with the backbone, its stride and the crop of a choice."""
    augment = params.augment.model_copy(update={"crop_px": choice.crop_px})
    stride = _stride(choice.backbone, params.stride)
    update = {"backbone": choice.backbone, "stride": stride, "augment": augment}
    return params.model_copy(update=update)


def _stride(backbone: str, default: int) -> int:
    return FIXED[backbone][0] if backbone in FIXED else default


def backbone_suggestion(published: Published, params: AffinityParams | SegmenterParams) -> str:
    """Return a sentence on the backbone that a file of initial weights fits; empty if none does."""

    def build(choice: Choice) -> tuple[nn.Module, Layout]:
        name = choice.backbone
        return build_backbone(name, _stride(name, params.stride)), published_layout(name)

    return suggestion(published, build, Choice(params.backbone, params.augment.crop_px, 0))


def suggestion(published: Published, build: Build, present: Choice) -> str:
    """Return a sentence on the settings with which a checkpoint fits; empty if none are known.

    build: returns the network of a choice, and the layout of its published file.
    """
    best, faults = present, _faults(published, build, present)
    for _ in range(2):  # a better backbone may show which crop fits
        attempt = _attempt(published, build, best)
        for other in _neighbours(best, attempt) if attempt else ():
            count = _faults(published, build, other)
            if count < faults:
                best, faults = other, count
    if faults or best == present:
        return ""
    return " ".join(_sentences(present, best))


def _sentences(present: Choice, fitting: Choice) -> Iterator[str]:
    """Yield what the file is of, and what to set."""
    if fitting.backbone != present.backbone:
        yield f"Its backbone is {fitting.backbone}: set backbone: {fitting.backbone}."
    if fitting.crop_px != present.crop_px:
        size = fitting.crop_px
        yield f"It was trained on crops of {size} px: set augment.crop_px: {size}."
    if fitting.classes != present.classes:
        yield (
            f"It was trained on {fitting.classes} classes, and the dataset has {present.classes}: take "
            "a file for this dataset, or a dataset with those classes."
        )


def _neighbours(choice: Choice, attempt: Attempt) -> Iterator[Choice]:
    """Yield choices that differ in one setting; sizes and classes are read off the file's shapes."""
    for backbone in (*FIXED, *RESNETS):
        yield replace(choice, backbone=backbone)
    classes = _class_counts(list(attempt.state.values()))[:MOST_CHOICES] if choice.classes else []
    for count in classes:
        yield replace(choice, classes=count)
    for side in _crops(choice.backbone, attempt.state, (*EXTRA_TOKENS, *classes, choice.classes)):
        yield replace(choice, crop_px=side)
        for count in classes:
            yield replace(choice, crop_px=side, classes=count)


def _class_counts(tensors: Sequence[Tensor]) -> list[int]:
    """Return numbers of classes that a head or class tokens may stand for, last tensors first.

    A head of a segmenter has a score more, for the background.
    """
    lengths = [length for tensor in reversed(tensors) for length in tuple(tensor.shape)[:2]]
    small = [length for length in lengths if 1 < length <= MOST_CLASSES]
    rarest = sorted(dict.fromkeys(small), key=small.count)  # widths of layers recur, classes do not
    return [count for length in rarest for count in (length, length - 1) if count > 0]


def _crops(backbone: str, state: Mapping[str, Tensor], extra: Sequence[int]) -> list[int]:
    """Return sizes of crops, in pixels, whose patches fill a position table of the file."""
    shape = SHAPES.get(backbone)
    if shape is None:
        return []
    lengths = [
        value.shape[1] for key, value in state.items() if "pos_embed" in key and value.dim() == 3
    ]
    sides = {
        math.isqrt(length - count) * shape.patch
        for length in lengths
        for count in extra
        if length > count and math.isqrt(length - count) ** 2 == length - count
    }
    return sorted(sides)[:MOST_CHOICES]


def _attempt(published: Published, build: Build, choice: Choice) -> Attempt | None:
    """Return the tensors that come closest to the network of a choice; None if there is none."""
    try:
        with torch.device("meta"):  # shapes alone
            module, layout = build(choice)
        return published.attempt(module, layout)
    except (WsssError, RuntimeError, ValueError, NotImplementedError):
        return None


def _faults(published: Published, build: Build, choice: Choice) -> float:
    attempt = _attempt(published, build, choice)
    return attempt.faults if attempt else math.inf
