"""Put the shards of an inference stage into one archive and write its record."""

from __future__ import annotations

from pathlib import Path

from wsss.runs.inputs import index_files
from wsss.runs.record import Recorder
from wsss.runs.run import Run
from wsss.storage import archive


def gather(run: Run, stage: str) -> None:
    """Put the shards of `cam` (or `cam-pc`), `decode`, `walk`, `instances` or `masks` together.

    The archive does not depend on the number of shards.
    """
    count = run.params.shards
    record = Recorder(stage, run.slice(stage), run.code(stage), run.seed)
    target = run.path(f"{stage}.zip")
    archive.join((run.path(f"{stage}/{k}-of-{count}.zip") for k in range(1, count + 1)), target)
    record.write(run.path(f"{stage}.json"), sources(run, stage), [target])


def sources(run: Run, stage: str) -> list[Path]:
    """Return the input files of the shards of a stage."""
    networks = {**run.cams, "decode": str(run.spec.cam_network), "masks": "segmenter"}
    networks |= dict.fromkeys(("walk", "instances"), "affinity")
    earlier = [run.path("cam.zip")] if networks[stage] == "affinity" else []
    return [*index_files(run, stage), run.path(f"{networks[stage]}.safetensors"), *earlier]
