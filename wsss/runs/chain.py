"""What the records of the stages before an evaluation say: settings, software, size and training.

The evaluation repeats it, so that a table can be made where these records are absent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from wsss.runs.record import PACKAGES, Record, read_record
from wsss.runs.run import PlainSettings, Run, stage_kind

FILE_KEYS = (
    "initial_file",
    "checkpoint",
    "source",
    "regions",
)  # compared by name: folders differ between machines
BATCHED = ("cam", "boxes", "decode", "masks")  # stages whose `batch` is that of inference


class StageRecord(Record):
    """A record, with what trainings add to it.

    parameters: number of the trained network's parameters. images_seen: training images, each counted
    as often as it was used. precision: of the forward passes.
    """

    parameters: int | None = None
    images_seen: int | None = None
    precision: str | None = None


def stages_before(run: Run, what: str) -> list[str]:
    """Return the stages that the evaluation `what` depends on, in order, without evaluations."""
    stages = run.stages()
    before = stages[: stages.index(f"eval/{what}")]
    return [stage for stage in before if not stage.startswith("eval/")]


def records_before(run: Run, what: str) -> dict[str, StageRecord]:
    """Return the records of the stages before an evaluation; absent files are left out."""
    paths = {stage: run.path(f"{stage}.json") for stage in stages_before(run, what)}
    return {
        stage: read_record(path, StageRecord) for stage, path in paths.items() if path.is_file()
    }


def settings_before(run: Run, what: str) -> PlainSettings:
    """Return the settings of an evaluation and of all stages before it, by stage, without the seed.

    Settings that depend on the machine alone are left out: folders of files, batches of inference.
    """
    stages = {stage: run.slice(stage) for stage in stages_before(run, what)}
    return {
        **{stage: _portable(settings, stage) for stage, settings in stages.items()},
        f"eval/{what}": run.slice(f"eval/{what}"),
    }


def _portable(settings: PlainSettings, stage: str) -> PlainSettings:
    silent = ("batch",) if stage_kind(stage) in BATCHED else ()
    return {
        key: Path(value).name if key in FILE_KEYS and value else value
        for key, value in settings.items()
        if key not in silent
    }


def digest(settings: Mapping[str, object]) -> str:
    """Return 12 hexadecimal digits for settings; empty for none."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12] if settings else ""


def made_with(run: Run, records: Mapping[str, StageRecord]) -> dict[str, tuple[str, ...]]:
    """Return the versions behind the records, and devices and precisions of the trainings.

    Each is a list of different values, in alphabetical order.
    """
    trained = [records[stage] for stage in run.trained if stage in records]
    values: dict[str, Iterable[str | None]] = {
        name: [record.versions.get(name) for record in records.values()] for name in PACKAGES
    }
    values["device"] = [record.device for record in trained]
    values["precision"] = [record.precision for record in trained]
    return {name: tuple(sorted({text for text in texts if text})) for name, texts in values.items()}
