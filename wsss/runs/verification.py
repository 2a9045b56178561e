"""Whether finished results are what the present settings, code and raw files make, file by file.

A mismatch is one line: a setting, code, a seed, an input, or a file whose SHA-256 is not the one in
the record of the stage that wrote it. Imports neither torch nor timm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from wsss.errors import ConfigError, MissingError
from wsss.runs.artifacts import (
    data_record_path,
    datasets_of,
    stage_files,
    stage_record,
    weights_files,
    weights_names,
)
from wsss.runs.inputs import dataset_outputs, weights_code
from wsss.runs.record import Record, read_record
from wsss.runs.run import WORK, Run, planned_runs
from wsss.runs.shared import KINDS, SharedFile, shared_files
from wsss.runs.staleness import (
    changes,
    code_change,
    data_differences,
    dataset_differences,
    differences,
)
from wsss.settings import Params
from wsss.settings.resolve import check_dataset
from wsss.storage.files import sha256


def named_mismatches(params: Params, names: Sequence[str]) -> Iterator[str]:
    """Yield a line for each mismatch of what is named.

    names: RUN..., `data` DATASET..., `weights` NAME..., `text` DATASET... or `saliency` DATASET...; none
    stand for everything that the settings select.
    """
    if not names:
        yield from plan_mismatches(params)
    elif names[0] == "data":
        for dataset in names[1:] or params.datasets:
            check_dataset(params, dataset)
            yield from data_mismatches(params, dataset)
    elif names[0] == "weights":
        for name in names[1:] or weights_names(planned_runs(params)):
            yield from weights_mismatches(name)
    elif names[0] in KINDS:
        for file in shared_files(planned_runs(params)):
            if file.kind == names[0] and (file.dataset in names[1:] or len(names) == 1):
                yield from shared_mismatches(file)
    else:
        for run in [Run.parse(name, params) for name in names]:
            yield from run_mismatches(run)


def plan_mismatches(params: Params) -> Iterator[str]:
    """Yield a line for each mismatch of the datasets, initial weights and runs that settings select."""
    runs = list(planned_runs(params))
    if not runs:
        raise ConfigError("The settings select no run.")
    lines: dict[str, None] = {}
    for dataset in datasets_of(runs):
        lines |= dict.fromkeys(data_mismatches(params, dataset))
    for name in weights_names(runs):
        lines |= dict.fromkeys(weights_mismatches(name))
    for file in shared_files(runs):
        lines |= dict.fromkeys(shared_mismatches(file))
    for run in runs:
        lines |= dict.fromkeys(run_mismatches(run))
    yield from lines


def data_mismatches(params: Params, dataset: str) -> Iterator[str]:
    """Yield a line for each mismatch of a prepared dataset, raw files included."""
    try:
        record = read_record(data_record_path(dataset), Record)
        yield from (f"{dataset} data: {text}" for text in dataset_differences(params, dataset))
    except MissingError as error:
        yield str(error)
    else:
        yield from _files(record, data_record_path(dataset), dataset_outputs(params, dataset))


def weights_mismatches(name: str) -> Iterator[str]:
    """Yield a line for each mismatch of fetched initial weights."""
    path, record_path = weights_files(name)
    try:
        record = read_record(record_path, Record)
    except MissingError as error:
        yield str(error)
        return
    for key, was, now in changes(record.params, {"weights": name}):
        yield f"weights {name}: {key} was {was}, is {now}"
    if not record.is_of(weights_code()):
        yield f"weights {name}: {code_change(record, weights_code())}"
    yield from _files(record, record_path, [path])


def shared_mismatches(file: SharedFile) -> Iterator[str]:
    """Yield a line for each mismatch of a file that all runs on a dataset share."""
    try:
        record = read_record(file.record, Record)
    except MissingError as error:
        yield str(error)
        return
    title, code = f"{file.dataset} {file.kind}", file.code()
    for key, was, now in changes(record.params, file.settings):
        yield f"{title}: {key} was {was}, is {now}"
    if not record.is_of(code):
        yield f"{title}: {code_change(record, code)}"
    for name, checksum in record.inputs.items():
        if Path(name).is_file() and sha256(Path(name)) != checksum:
            yield f"{title}: it read another {name} than the present one"
    yield from _files(record, file.record, [file.path])


def run_mismatches(run: Run) -> Iterator[str]:
    """Yield a line for each mismatch of a run, its dataset's settings and raw files included."""
    finished: dict[str, Record] = {}
    lines: dict[str, None] = {}
    for stage in run.stages():
        try:
            finished[stage] = read_record(stage_record(run, stage), Record)
        except MissingError as error:
            lines[str(error)] = None
    try:
        lines |= dict.fromkeys(map(str, data_differences(run)))
        lines |= dict.fromkeys(map(str, differences(run, partly=True)))
    except MissingError as error:  # a record that all runs share, or a damaged one
        lines[str(error)] = None
    yield from lines
    for stage, record in finished.items():
        yield from _files(record, stage_record(run, stage), stage_files(run, stage))
        yield from _outside(f"{run} {stage}", record.inputs)


def _files(record: Record, path: Path, expected: Iterable[Path]) -> Iterator[str]:
    """Yield how the files of a stage differ from its record. path: of the record."""
    names = {file.as_posix() for file in expected}
    for name in sorted(names - set(record.outputs)):
        yield f"{name} is not in {path}"
    for name, checksum in record.outputs.items():
        if not Path(name).is_file():
            yield f"{name} is missing, though {path} describes it"
        elif sha256(Path(name)) != checksum:
            yield f"{name} is not the file that {path} describes"


def _outside(stage: str, inputs: Mapping[str, str]) -> Iterator[str]:
    """Yield the inputs that no stage has written, such as published weights, and that changed."""
    for name, checksum in inputs.items():
        path = Path(name)
        if not path.is_relative_to(WORK) and path.is_file() and sha256(path) != checksum:
            yield f"{stage}: it read another {name} than the present one"
