"""Bring indexes up to their raw files before jobs are planned; the Snakefile calls it once per run.

Imports neither torch nor timm.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wsss.data.manifest import Changes, changes, load_manifest, save_manifest, touched
from wsss.errors import DatasetError, MissingError
from wsss.runs.imported_files import changed_files
from wsss.runs.inputs import data_archive, data_code, data_slice, dataset_outputs, manifest_path
from wsss.runs.record import Record, read_record
from wsss.runs.run import WORK, planned_runs
from wsss.settings import Params
from wsss.stages.prepare import prepare

LOCKS = Path(".snakemake/locks")  # holds files while Snakemake runs jobs


def refresh(params: Params) -> Iterator[str]:
    """Make the indexes of the selected datasets again whose raw files changed; yield a line for each.

    Changed files of imports are named too; Snakemake imports them again.

    Files that would not change are left alone, so only the stages that read a changed part run again.
    A dataset with an archive is not made here: its record no longer fits, so Snakemake makes it.

    Raises:
        WsssError: raw files cannot be read, or do not make up a dataset.
    """
    for dataset in params.datasets:
        if _is_current_code(params, dataset):
            yield from _refresh(params, dataset)
        elif dataset in params.data.csv:
            _check_table(params, dataset)
    for run in planned_runs(params) if params.imports else ():
        for stage in run.spec.imported:
            if text := changed_files(run, stage):
                yield f"{run} {stage}: {text}: imported again"


def _is_current_code(params: Params, dataset: str) -> bool:
    """Return whether a dataset is whole and of the present settings and code; else Snakemake makes it."""
    record = WORK / dataset / "data.json"
    paths = [record, manifest_path(dataset), *dataset_outputs(params, dataset)]
    if not all(path.is_file() for path in paths):
        return False
    try:
        earlier = read_record(record, Record)
    except MissingError:
        return False
    return (earlier.params, earlier.code) == (data_slice(params, dataset), data_code(dataset))


def _check_table(params: Params, dataset: str) -> None:
    table = Path(params.data.csv[dataset].table)
    if not table.is_file():
        raise DatasetError(
            f"{table} cannot be read (there is no such file). Set data.csv.{dataset}.table to the "
            "table of your images."
        )


def _refresh(params: Params, dataset: str) -> Iterator[str]:
    path = manifest_path(dataset)
    manifest = load_manifest(path)
    present = changes(manifest) if manifest else Changes()
    if manifest is None or not (present or present.touched):
        return
    if not present:
        save_manifest(touched(manifest, present), path)
    elif data_archive(params, dataset):
        yield f"{dataset}: {present}: the dataset is made again"
    elif _is_running():
        yield f"{dataset}: {present}: not looked at while another snakemake runs here"
    else:
        parts = prepare(params, dataset, manifest)
        names = f"its part{'s' * (len(parts) > 1)} {', '.join(parts)} changed"
        result = names if parts else "it is the same as before"
        yield f"{dataset}: {present}: the index was made again; {result}"


def _is_running() -> bool:
    return LOCKS.is_dir() and any(LOCKS.iterdir())
