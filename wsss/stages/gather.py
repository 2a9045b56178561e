"""Join the shards of an inference stage into one archive and write its record."""

from __future__ import annotations

from pathlib import Path

from wsss import archive
from wsss.plan import Run
from wsss.record import Recorder


def gather(run: Run, stage: str) -> None:
    """Join the shards of `cam`, `decoded`, `walk`, `instances` or `masks` of a run.

    The number of shards leaves no trace.
    """
    count = run.params.shards
    record = Recorder(stage, run.slice(stage), run.code(stage), run.seed)
    target = run.path(f"{stage}.zip")
    archive.join((run.path(f"{stage}/{k}-of-{count}.zip") for k in range(1, count + 1)), target)
    record.write(run.path(f"{stage}.json"), sources(run, stage), [target])


def sources(run: Run, stage: str) -> list[Path]:
    """Return what the shards of a stage were made from."""
    own = str(run.spec.localizer)
    networks = {"cam": own, "decoded": own, "masks": "segmenter"}
    networks |= dict.fromkeys(("walk", "instances"), "affinity")
    earlier = [run.path("cam.zip")] if networks[stage] == "affinity" else []
    return [run.index, run.path(f"{networks[stage]}.safetensors"), *earlier]
