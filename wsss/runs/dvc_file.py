"""The file dvc.yaml: one stage that runs Snakemake, and one for each dataset, weights and run of a plan.

The latter compute nothing: they verify, and DVC records every file as a version of its own. Imports
neither torch nor timm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from wsss.errors import ConfigError, StaleError
from wsss.runs.artifacts import (
    data_record_path,
    datasets_of,
    stage_files,
    stage_record,
    weights_files,
    weights_names,
)
from wsss.runs.imported_files import imported_manifest
from wsss.runs.inputs import dataset_outputs, manifest_path
from wsss.runs.run import Run, planned_runs
from wsss.runs.shared import shared_files
from wsss.settings import Params
from wsss.settings.resolve import load_params, with_presets
from wsss.storage.files import write_text
from wsss.storage.plain_yaml import parse

DVC_FILE = Path("dvc.yaml")
PARAMS_FILE = Path("params.yaml")
HEAD = """\
# Written by `wsss dvc` from {files}. Do not edit: after a change of datasets, methods,
# protocols, seeds or a method's chain, write it again. Snakemake owns the pipeline and runs it in parallel;
# the other stages verify what it has made, and record each file. On a cluster: SNAKEMAKE_PROFILE=slurm dvc repro
"""
# In Git, not in DVC's cache. The provenance names the commit, so it would differ between equal runs.
TABLES = ("table", "classes", "context", "phenomena", "curves", "loss")
WIDTH = 10_000  # characters, so that no line is broken

Stage = dict[str, object]


def dvc_text(files: Sequence[Path]) -> str:
    """Return the content of dvc.yaml for parameter files, each laid over the ones before."""
    if not files or files[0] != PARAMS_FILE:
        raise ConfigError(
            f"DVC reads {PARAMS_FILE} first. Name it before the others: --params {PARAMS_FILE} --params …"
        )
    params = load_params(files)
    runs = list(planned_runs(params))
    options = "".join(f" --params {file}" for file in files) if len(files) > 1 else ""
    content = {
        "stages": {
            "pipeline": _pipeline(params, runs, files, options),
            **dict(_data_stages(params, runs, options)),
            **dict(_weights_stages(runs)),
            **dict(_shared_stages(runs, options)),
            **_run_stages(runs, options),
        },
        "artifacts": dict(entry for run in runs for entry in _artifacts(run)),
        "plots": _plots(Path(params.results)),
    }
    names = " and ".join(map(str, files))
    return HEAD.format(files=names) + yaml.safe_dump(content, sort_keys=False, width=WIDTH)


def write_dvc_file(files: Sequence[Path]) -> None:
    """Write dvc.yaml for parameter files."""
    write_text(DVC_FILE, dvc_text(files))


def check_dvc_file(files: Sequence[Path]) -> None:
    """Stop with a `StaleError` unless dvc.yaml lists every file that the parameter files make.

    It may list further files of a run if they exist: an experiment such as `-S pseudo.threshold=0.4`
    leaves a stage out, whose files then stay the ones of before.
    """
    text = DVC_FILE.read_text(encoding="utf-8") if DVC_FILE.is_file() else ""
    expected = dvc_text(files)
    if text != expected and not _covers(_stages(text), _stages(expected)):
        options = "".join(f" --params {file}" for file in files) if len(files) > 1 else ""
        raise StaleError(
            f"{DVC_FILE} does not list what {' and '.join(map(str, files))} makes. Run "
            f"`wsss dvc{options}`, then the same again."
        )


def _stages(text: str) -> dict[str, Stage]:
    """Return the stages in the text of a dvc.yaml; none if it is damaged."""
    try:
        content = parse(text)
    except yaml.YAMLError:
        return {}
    stages = content.get("stages") if isinstance(content, Mapping) else None
    return dict(stages) if isinstance(stages, Mapping) else {}


def _covers(listed: Mapping[str, Stage], expected: Mapping[str, Stage]) -> bool:
    """Return whether stages are the expected ones, but for more outputs that exist."""
    return listed.keys() == expected.keys() and all(
        _covers_stage(listed[name], stage) for name, stage in expected.items()
    )


def _covers_stage(listed: Stage, expected: Stage) -> bool:
    if {**listed, "outs": None} != {**expected, "outs": None}:
        return False
    listed_paths, paths = _output_paths(listed), _output_paths(expected)
    return paths <= listed_paths and all(Path(path).is_file() for path in listed_paths - paths)


def _output_paths(stage: Stage) -> set[str]:
    outs = stage.get("outs")
    return {path for out in outs for path in out} if isinstance(outs, list) else set()


def _pipeline(params: Params, runs: Sequence[Run], files: Sequence[Path], options: str) -> Stage:
    """Return the stage that runs Snakemake. Its outputs in work/ are the last record of each other stage.

    DVC cannot know whether raw files changed, so it always asks Snakemake.
    """
    more = "".join(f" {file}" for file in files[1:])
    records = [data_record_path(dataset) for dataset in datasets_of(runs)]
    records += [weights_files(name)[1] for name in weights_names(runs)]
    records += [file.record for file in shared_files(runs)]
    records += [_last_record(run) for run in runs]
    folder = Path(params.results)
    return {
        "cmd": [
            f"wsss dvc --check{options}",
            f"snakemake --cores all{f' --configfile{more}' if more else ''}",
        ],
        "deps": ["Snakefile", "uv.lock", "workflow", "wsss", *params.methods_path],
        "params": [{str(file): None} for file in with_presets(files)],
        "always_changed": True,
        "outs": [*_outs(records), *_outs([folder / f"{name}.csv" for name in TABLES], cache=False)],
        "metrics": _outs([folder / "metrics.json"], cache=False),
    }


def _plots(folder: Path) -> list[dict[str, object]]:
    """Return what `dvc plots` draws of the tables in a folder."""
    losses, curves, classes = (
        (folder / f"{name}.csv").as_posix() for name in ("loss", "curves", "classes")
    )
    bars = {"x": "class", "y": {classes: "iou"}, "template": "bar_horizontal"}
    return [
        {"training loss": {"x": "step", "y": {losses: "loss"}}},
        {"threshold against mIoU": {"x": "threshold", "y": {curves: "miou"}}},
        {"IoU per class": bars},
    ]


def _data_stages(params: Params, runs: Sequence[Run], options: str) -> Iterator[tuple[str, Stage]]:
    for dataset in datasets_of(runs):
        files = [*dataset_outputs(params, dataset), manifest_path(dataset)]
        command = f"wsss verify data {dataset}{options}"
        yield f"data-{dataset}", _verified(command, data_record_path(dataset), files)


def _weights_stages(runs: Sequence[Run]) -> Iterator[tuple[str, Stage]]:
    for name in weights_names(runs):
        path, record = weights_files(name)
        stage = _verified(f"wsss verify weights {name}", record, [path])
        yield f"weights-{name.replace('.', '-')}", stage


def _shared_stages(runs: Sequence[Run], options: str) -> Iterator[tuple[str, Stage]]:
    for file in shared_files(runs):
        command = f"wsss verify {file.kind} {file.dataset}{options}"
        stage = _verified(command, file.record, [file.path])
        yield f"{file.kind}-{file.dataset}-{file.name}", stage


def _run_stages(runs: Sequence[Run], options: str) -> dict[str, Stage]:
    """Return the stage of each run; a file that several runs share is in the one of the base, or the first."""
    listed: set[Path] = set()
    stages = {}
    for run in sorted(runs, key=lambda run: run.base != run.method):
        files = [path for path in _run_files(run) if path not in listed]
        listed |= {*files, _last_record(run)}
        stages[_name(run)] = _verified(f"wsss verify {run}{options}", _last_record(run), files)
    return {_name(run): stages[_name(run)] for run in runs}


def _run_files(run: Run) -> list[Path]:
    """Return all files of a run but the last record."""
    return [
        path
        for stage in run.stages()
        for path in (*stage_files(run, stage), stage_record(run, stage), *_manifest(run, stage))
        if path != _last_record(run)
    ]


def _manifest(run: Run, stage: str) -> list[Path]:
    """Return the manifest of imported files, if those of a stage are imported."""
    return [imported_manifest(run, stage)] if run.is_brought(stage) else []


def _verified(command: str, record: Path, files: Iterable[Path]) -> Stage:
    """Return a stage that verifies `files` once the pipeline has written `record`."""
    return {"cmd": command, "deps": [record.as_posix()], "outs": _outs(files)}


def _outs(files: Iterable[Path], cache: bool = True) -> list[dict[str, dict[str, bool]]]:
    """Return files as outputs. persist: otherwise DVC deletes them first, and all is made again."""
    options = {"persist": True} if cache else {"cache": False, "persist": True}
    return [{file.as_posix(): dict(options)} for file in files]


def _last_record(run: Run) -> Path:
    """Return the record of the last evaluation; it repeats the settings of all stages before."""
    return stage_record(run, run.stages()[-1])


def _name(run: Run) -> str:
    """Return the name of the stage of a run; DVC allows no slash in it."""
    return str(run).replace("/", "-")


def _artifacts(run: Run) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield the name and the description of the weights and pseudo labels of a run."""
    for stage in (*run.trained, "pseudo"):
        if stage in run.stages() and stage not in run.shared:
            is_network = stage != "pseudo"
            what = f"weights of the stage {stage}" if is_network else "pseudo labels"
            yield (
                f"{_name(run)}-{stage}".replace("_", "-").lower(),
                {
                    "path": stage_files(run, stage)[0].as_posix(),
                    "type": "model" if is_network else "dataset",
                    "desc": f"{what}: {run.spec.title}, {run}",
                },
            )
