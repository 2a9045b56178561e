"""Training and CAM inference of whole stages, beside the network alone on data in memory."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from bench import Bench, seconds, table
from stages import work

from wsss.inference.trained import normalisation, without_gradients
from wsss.inference.views import cam_augmentation
from wsss.machine.runtime import Runtime
from wsss.methods.base import build_method
from wsss.runs.run import Run
from wsss.training import loop
from wsss.training.optimizer import freeze, parts

HEADING = ("what", "network", "stage, images/s", "network alone, images/s", "share")
CLASSES = 20


@dataclass(frozen=True)
class Case:
    """A classifier of the method `cam`. crop_px, batch: of its training."""

    backbone: str
    crop_px: int
    batch: int
    optimizer: str


FULL = (
    Case("resnet50", 512, 16, "sgd"),
    Case("deit_small_patch16_224", 224, 64, "adamw"),
    Case("vit_base_patch16_224", 224, 64, "adamw"),
)
SMALL = (Case("toy", 32, 4, "adamw"),)


@dataclass(frozen=True)
class Rate:
    """Images a second of a stage, and of its network alone."""

    what: str
    network: str
    stage: float
    alone: float

    @property
    def cells(self) -> tuple[str, ...]:
        """The row in words."""
        share = f"{self.stage / self.alone:.2f}"
        return self.what, self.network, f"{self.stage:.1f}", f"{self.alone:.1f}", share


def rows(bench: Bench) -> Iterator[Rate]:
    """Yield the rates of training and of CAM inference of every case."""
    for case in SMALL if bench.is_small else FULL:
        if not bench.has_time:
            return
        run = case_run(bench, case)
        yield training("training", run, case)
        if bench.has_time:
            yield inference(bench, run, case)
        if bench.has_time:
            yield training("training, deterministic", case_run(bench, case, True), case)


def case_run(bench: Bench, case: Case, deterministic: bool = False) -> Run:
    """Return a run of the method `cam` with the classifier of a case."""
    [first, *_] = [run for run in bench.runs(["cam"]) if run.protocol == "common"]
    augment = {"crop_px": case.crop_px}
    train: dict[str, object] = {"batch": case.batch, "optimizer": case.optimizer, "nesterov": False}
    train |= {"steps": 4 if bench.is_small else 40, "lr": 0.001, "deterministic": deterministic}
    changes = {"backbone": case.backbone, "stride": 16, "augment": augment, "train": train}
    return bench.with_settings(first, changes)


def training(what: str, run: Run, case: Case) -> Rate:
    """Return the rate of the second half of a training, and that of its passes alone."""
    stamps: list[float] = []
    plain = loop.Trainer.step

    def step(self: loop.Trainer, *arguments: Any) -> None:
        plain(self, *arguments)
        stamps.append(time.perf_counter())

    loop.Trainer.step = step  # type: ignore[method-assign]
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            work(run, "classifier", 0)
    finally:
        loop.Trainer.step = plain  # type: ignore[method-assign]
    half = len(stamps) // 2
    rate = (len(stamps) - 1 - half) * case.batch / (stamps[-1] - stamps[half])
    return Rate(what, case.backbone, rate, passes(run, case))


def passes(run: Run, case: Case) -> float:
    """Return the images a second of forward and backward passes and updates on one batch."""
    params = run.settings.networks["classifier"]
    runtime = Runtime.start(params.train.precision)
    method = build_method(run, CLASSES)
    net = method.build("classifier")
    runtime.place(net).train()
    freeze(net, params.train)
    batch = {
        "image": runtime.send(torch.randn(case.batch, 3, case.crop_px, case.crop_px)),
        "label": torch.zeros(case.batch, CLASSES, device=runtime.device),
    }
    optimizers = [part.optimizer for part in parts(net, params.train)]

    def step() -> None:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        with runtime.autocast():
            terms = method.losses("classifier", {"classifier": net}, batch, 0)  # type: ignore[arg-type]
        torch.stack([term.float() for term in terms.values()]).sum().backward()
        for optimizer in optimizers:
            optimizer.step()

    return case.batch / seconds(step, 10, 3)


def inference(bench: Bench, run: Run, case: Case) -> Rate:
    """Return the rate of CAM inference, and that of the forward passes of all views alone."""
    began = time.perf_counter()
    with contextlib.redirect_stderr(io.StringIO()):
        work(run, "cam", bench.workers)
    rate = bench.images / (time.perf_counter() - began)
    runtime = Runtime.start("auto")
    method = build_method(run, CLASSES)
    net = method.build("classifier")
    runtime.place(net.eval().requires_grad_(False))
    size = (48, 64) if bench.is_small else (375, 500)
    count = run.settings.cam.batch
    pictures = [np.zeros((*size, 3), np.uint8)] * count
    augmentation = cam_augmentation(run.settings.cam)
    views = [runtime.send(view) for view in augmentation.views(pictures, normalisation(net))]
    forward = without_gradients(lambda images: method.cam(net, images))

    def look() -> None:
        with runtime.autocast():
            for view in views:
                forward(torch.cat([view, view.flip(3)]) if augmentation.mirror else view)

    return Rate("CAM inference", case.backbone, rate, count / seconds(look, 3, 1))


def page(results: list[Rate]) -> list[str]:
    """Return the lines about rates."""
    return [
        "## Rates",
        "",
        "A stage with its loader, files and start, against the passes of its network on data in memory.",
        "",
        *table(HEADING, (row.cells for row in results)),
        "",
    ]
