"""The files that the stages of a run, datasets and initial weights leave behind.

Imports neither torch nor timm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from wsss.runs.inputs import initial_weights, initial_weights_path
from wsss.runs.run import WORK, Run
from wsss.runs.sources import artifact


def stage_files(run: Run, stage: str) -> list[Path]:
    """Return the files that a stage of a run writes beside its record: all that its record names."""
    if stage.startswith("eval/"):
        return [run.path(f"{stage}.csv")]
    path = artifact(run, stage)
    is_network = path.suffix == ".safetensors"
    return [path, path.with_suffix(".csv")] if is_network else [path]


def stage_record(run: Run, stage: str) -> Path:
    """Return the record of a stage of a run."""
    return run.path(f"{stage}.json")


def data_record_path(dataset: str) -> Path:
    """Return the record of a dataset."""
    return WORK / dataset / "data.json"


def weights_names(runs: Iterable[Run]) -> list[str]:
    """Return the names of all initial weights that the trainings of runs start from."""
    return sorted(
        {
            name
            for run in runs
            for stage in run.trained
            for name in initial_weights(run.settings, stage).values()
        }
    )


def weights_files(name: str) -> tuple[Path, Path]:
    """Return the file of initial weights and its record."""
    path = initial_weights_path(name)
    return path, path.with_suffix(".json")


def datasets_of(runs: Sequence[Run]) -> list[str]:
    """Return the datasets of runs, each once, in their order."""
    return list(dict.fromkeys(run.dataset for run in runs))
