"""Rates of an H100 that docs/cost.md turns arithmetic into hours with, measured on an earlier version.

They are images a second of whole stages with their loaders, on one H100 with 16 cores, PyTorch 2.11. The
arithmetic of an image is counted here, so that the rate holds for other networks of the same family.
"""

import functools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from wsss.methods.cam.method import CamNet
from wsss.runs.run import Run

Family = Literal["convolutional", "transformer"]
TRANSFORMERS = ("deit", "vit", "conformer")
VOC_SIZE = (375, 500)  # of the photographs, height and width in pixels
SCALES = (1.0, 0.5, 1.5, 2.0)  # of the views, mirrored too


@dataclass(frozen=True)
class Rate:
    """A measured stage. crop_px: of training images; None: inference on all views of photographs."""

    family: Family
    backbone: str
    crop_px: int | None
    precision: str
    images_per_s: float

    @property
    def work(self) -> str:
        """What was measured."""
        if self.crop_px is None:
            return "CAM inference, four scales, mirrored, about 375x500 px"
        return f"training at {self.crop_px} px"


RATES = (
    Rate("convolutional", "resnet50", 512, "bf16", 373.0),
    Rate("transformer", "deit_small_patch16_224", 224, "bf16", 893.0),
    Rate("convolutional", "resnet50", None, "bf16", 25.9),
    Rate("transformer", "deit_small_patch16_224", None, "fp32", 17.2),
)


def rate_of(run: Run, stage: str) -> Rate:
    """Return the measured rate that a stage is taken to reach: of its family, in training or not."""
    trains = stage.startswith("training")
    family = _family(run, stage.removeprefix("training ").removeprefix("computing "))
    return next(
        rate for rate in RATES if rate.family == family and trains == (rate.crop_px is not None)
    )


def _family(run: Run, stage: str) -> Family:
    networks = run.settings.networks
    network = stage if stage in networks else str(run.spec.cam_network)
    if stage not in networks and stage not in ("CAM inference", "own decoder"):
        return "convolutional"  # affinity networks and segmenters
    return "transformer" if networks[network].backbone.startswith(TRANSFORMERS) else "convolutional"


@functools.cache
def tflops(rate: Rate) -> float:
    """Return the arithmetic of a measured stage in TFLOP/s."""
    return rate.images_per_s * image_flop(rate) / 1e12


def image_flop(rate: Rate) -> float:
    """Return the floating-point operations of one image; no number is computed for it."""
    with torch.device("meta"):
        net: nn.Module = CamNet(rate.backbone, 16, 20, 0.0)
        with FlopCounterMode(display=False) as counter:
            if rate.crop_px is not None:
                net(torch.empty(1, 3, rate.crop_px, rate.crop_px)).sum().backward()
            else:
                _views(net)
    return float(counter.get_total_flops())


def _views(net: nn.Module) -> None:
    with torch.no_grad():
        for scale in SCALES:
            height, width = (round(length * scale) for length in VOC_SIZE)
            net(torch.empty(2, 3, height, width))


def sentences() -> list[str]:
    """Return a table of the rates for a page."""
    lines = [
        "| measured | network | images/s | TFLOP/s | used for |",
        "|---|---|--:|--:|---|",
    ]
    for rate in RATES:
        use = "training" if rate.crop_px is not None else "inference"
        lines.append(
            f"| {rate.work}, {rate.precision} | {rate.backbone} | {rate.images_per_s:g} "
            f"| {tflops(rate):.0f} | {use} of {rate.family} networks |"
        )
    return lines
