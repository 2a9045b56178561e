"""Every stage of every method: seconds, seconds a step, memory, and the first error."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from bench import Bench, finished, memory_gib, table

from wsss.runs.run import Run, stage_kind
from wsss.stages.affinity import affinity
from wsss.stages.calibrate import calibrate
from wsss.stages.cam import cam
from wsss.stages.confident import confident
from wsss.stages.decode import decode
from wsss.stages.evaluate import evaluate
from wsss.stages.masks import masks
from wsss.stages.pseudo import pseudo
from wsss.stages.segmenter import segmenter
from wsss.stages.train import train
from wsss.stages.walk import walk
from wsss.training import loop

NOT_RUN = "not run: the time was over"
HEADING = ("run", "stage", "s", "s a step", "GiB", "result")


@dataclass(frozen=True)
class Row:
    """What a stage took. step_s: median of the second half of its steps. result: `ok`, or an error."""

    run: str
    stage: str
    result: str
    total_s: float = 0.0
    step_s: float | None = None
    memory: float | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """The row in words."""
        step = "" if self.step_s is None else f"{self.step_s:.3f}"
        memory = "" if self.memory is None else f"{self.memory:.1f}"
        took = f"{self.total_s:.1f}" if self.total_s else ""
        return self.run, self.stage, took, step, memory, self.result


@contextlib.contextmanager
def timed_steps() -> Iterator[list[float]]:
    """Yield a list that the time of every optimiser step of a training is added to."""
    times: list[float] = []
    plain = loop.Trainer.step

    def step(self: loop.Trainer, *arguments: Any) -> None:
        began = time.perf_counter()
        plain(self, *arguments)
        finished()
        times.append(time.perf_counter() - began)

    loop.Trainer.step = step  # type: ignore[method-assign]
    try:
        yield times
    finally:
        loop.Trainer.step = plain  # type: ignore[method-assign]


def work(run: Run, stage: str, workers: int) -> None:
    """Do a stage of a run as its command does it."""
    kind, processes = stage_kind(stage), len(os.sched_getaffinity(0))
    if stage in run.spec.networks:
        train(run, stage)
    elif stage.startswith("eval/"):
        evaluate(run, stage.removeprefix("eval/"))
    elif kind == "calibrate":
        calibrate(run, stage.removeprefix("calibrate-"))
    elif kind == "cam":
        cam(run, None, workers, run.cams[stage])
    elif kind in ("decode", "masks"):
        {"decode": decode, "masks": masks}[kind](run, None, workers)
    elif kind in ("confident", "pseudo"):
        {"confident": confident, "pseudo": pseudo}[kind](run, processes)
    elif kind == "walk":
        walk(run, None)
    else:
        {"affinity": affinity, "segmenter": segmenter}[kind](run)


def measured(run: Run, stage: str, workers: int) -> Row:
    """Do a stage and return what it took; an error of any kind is its result."""
    memory_gib()
    began = time.perf_counter()
    result = "ok"
    with timed_steps() as times, contextlib.redirect_stderr(io.StringIO()):
        try:
            work(run, stage, workers)
        except Exception as error:  # noqa: BLE001  # the other runs go on
            result = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    late = times[len(times) // 2 :]
    step_s = float(np.median(late)) if late else None
    row = Row(str(run), stage, result, time.perf_counter() - began, step_s, memory_gib())
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return row


def rows(bench: Bench, methods: list[str]) -> Iterator[Row]:
    """Yield a row for each stage of each run; stages with settings of an earlier run are left out."""
    refined: set[str] = set()
    for run in bench.runs(methods):
        settings = run.settings
        shared = (settings.affinity, settings.walk, settings.pseudo, settings.segmenter)
        key = "".join(part.model_dump_json() for part in shared)
        stages = run.stages()
        if key in refined:
            stages = stages[: stages.index("segmenter" if run.spec.learns_masks else "eval/seed")]
        refined.add(key)
        for stage in stages:
            if not bench.has_time:
                yield Row(str(run), stage, NOT_RUN)
                break
            row = measured(run, stage, bench.workers)
            yield row
            if row.result != "ok":
                break


def page(results: list[Row]) -> list[str]:
    """Return the lines about all stages."""
    failed = [row for row in results if row.result not in ("ok", NOT_RUN)]
    skipped = sum(row.result == NOT_RUN for row in results)
    return [
        "## Stages",
        "",
        f"{sum(row.result == 'ok' for row in results)} stages ran, {len(failed)} failed, and {skipped} runs "
        "did not end in time. A stage whose settings an earlier run has is not run again.",
        "",
        *table(HEADING, (row.cells for row in results)),
        "",
    ]
