"""The last guard before a table: every record must fit the present settings, code, seed and raw files.

It reads records and no artifact. The checksum of every input must equal the checksum in the record
of the stage that wrote this file; raw files are compared with the manifest of their dataset.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from wsss.data.manifest import changes as raw_changes
from wsss.data.manifest import load_manifest
from wsss.errors import MissingError, StaleError
from wsss.runs.imported_files import changed_files
from wsss.runs.inputs import (
    data_code,
    data_slice,
    index_files,
    initial_weights,
    initial_weights_path,
    manifest_path,
)
from wsss.runs.record import Record, read_record
from wsss.runs.run import WORK, Run, scored_artifact, stage_kind
from wsss.runs.shared import SharedFile, shared_files
from wsss.settings import Params

LISTED = 12  # differences named in one message
# The section of params.yaml with the settings of a stage, if it is not named as the stage.
SECTIONS = {
    "confident": "affinity.confident",
    "masks": "segmenter.test",
    "data": "data",
}


@dataclass(frozen=True)
class Difference:
    """One way in which a record is not what the present configuration would make."""

    record: Path
    text: str

    def __str__(self) -> str:
        return self.text


def records(run: Run) -> dict[str, Record]:
    """Return the record of every stage of a run, in order; `MissingError` if one is absent."""
    return {stage: read_record(run.path(f"{stage}.json"), Record) for stage in run.stages()}


def present(run: Run) -> dict[str, Record]:
    """Return the records of the finished stages of a run, in order."""
    paths = {stage: run.path(f"{stage}.json") for stage in run.stages()}
    return {stage: read_record(path, Record) for stage, path in paths.items() if path.is_file()}


def data_record(dataset: str) -> Record:
    """Return the record of a dataset."""
    return read_record(_data_path(dataset), Record)


def _data_path(dataset: str) -> Path:
    return WORK / dataset / "data.json"


def verify(*runs: Run, partly: bool = False) -> None:
    """Stop unless every record of `runs` fits the present settings, code, seed and inputs.

    partly: skip stages that are not finished; otherwise they are an error.

    Raises:
        StaleError: with the differing keys of all runs.
    """
    reasons = [*data_differences(*runs), *(d for run in runs for d in differences(run, partly))]
    lines = list(dict.fromkeys(map(str, reasons)))
    if lines:
        more = f"; and {len(lines) - LISTED} more" if len(lines) > LISTED else ""
        raise StaleError(
            f"The results are out of date: {'; '.join(lines[:LISTED])}{more}. "
            f"Run `snakemake` again; it remakes what differs.{acceptable(lines)}"
        )


def acceptable(lines: Iterable[str], target: str = "RUN") -> str:
    """Return the other way out, if code differs in one of these lines. target: what to accept."""
    if not any(": code was " in line for line in lines):
        return ""
    command = f'wsss accept {target} --because "REASON"'
    return f" If the new code gives the same results, `{command}` says so and makes them current."


def stale(*runs: Run) -> set[Path]:
    """Return the records of runs and their data that are present, and damaged or not the current ones."""
    readable = [run for run in runs if _is_readable(_data_path(run.dataset))]
    of_data = {difference.record for difference in data_differences(*readable)}
    return of_data.union(*map(_stale, runs))


def _stale(run: Run) -> set[Path]:
    paths = {run.path(f"{stage}.json") for stage in run.stages()}
    paths |= {_data_path(run.dataset), *_weights_records(run, run.stages())}
    paths |= {file.record for file in shared_files([run])}
    damaged = {path for path in paths if path.is_file() and not _is_readable(path)}
    if damaged or not _data_path(run.dataset).is_file():
        return damaged  # whatever depends on the missing or damaged record is made again anyway
    return {difference.record for difference in differences(run, partly=True)}


def _is_readable(path: Path) -> bool:
    try:
        read_record(path, Record)
    except MissingError:
        return False
    return True


def data_differences(*runs: Run) -> Iterator[Difference]:
    """Yield each way in which the datasets of runs do not fit the present, raw files included."""
    for dataset, params in {run.dataset: run.params for run in runs}.items():
        for text in dataset_differences(params, dataset):
            yield Difference(_data_path(dataset), f"{dataset} data: {text}")


def dataset_differences(params: Params, dataset: str) -> Iterator[str]:
    """Yield each way in which a prepared dataset does not fit the present, without its name."""
    settings, code = data_slice(params, dataset), data_code(dataset)
    yield from _against(data_record(dataset), settings, code, f"data.{dataset}")
    manifest = load_manifest(manifest_path(dataset))
    if manifest is None:
        yield f"{manifest_path(dataset)}, which names its raw files, is missing or damaged"
    elif raw := raw_changes(manifest):
        yield str(raw)


def differences(
    run: Run, partly: bool = False, stages: Collection[str] | None = None
) -> Iterator[Difference]:
    """Yield each way in which the records of a run do not fit the present; not those of its data.

    partly: skip stages that are not finished. stages: compare the records of these stages alone.
    """
    finished = present(run) if partly else records(run)
    if stages is not None:
        finished = {stage: record for stage, record in finished.items() if stage in stages}
    for stage, record in finished.items():
        path = run.path(f"{stage}.json")
        section = "" if stage.startswith("eval/") else SECTIONS.get(stage, stage_kind(stage))
        for text in _against(record, run.slice(stage), run.code(stage), section):
            yield Difference(path, f"{run} {stage}: {text}")
        if record.seed is not None and record.seed != run.seed:
            yield Difference(path, f"{run} {stage}: seed was {record.seed}, is {run.seed}")
        if run.is_brought(stage) and (text := changed_files(run, stage)):
            yield Difference(path, f"{run} {stage}: {text}")
    yield from _broken_chain(run, finished, partly)


def _against(
    record: Record, params: Mapping[str, object], code: str, section: str
) -> Iterator[str]:
    """Yield how the settings and the code of a record differ from the present ones."""
    for key, was, now in changes(record.params, params, section):
        yield f"{key} was {was}, is {now}"
    if not record.is_of(code):
        yield code_change(record, code)


def code_change(record: Record, code: str) -> str:
    """Return how the code of a record differs from the present code, in words."""
    return f"code was {record.code}, is {code}"


def changes(was: object, now: object, key: str = "") -> Iterator[tuple[str, object, object]]:
    """Yield (dotted key, old value, new value) wherever two nested mappings differ."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for name in sorted({*was, *now}):
            inner = f"{key}.{name}" if key else name
            yield from changes(was.get(name, "absent"), now.get(name, "absent"), inner)
    elif was != now:
        yield key, was, now


def _broken_chain(run: Run, finished: Mapping[str, Record], partly: bool) -> Iterator[Difference]:
    """Yield every input that changed after it was read, and every input that is not recorded."""
    written = _written(run, finished, partly)
    for file in shared_files([run], finished):
        if file.record.is_file():
            yield from _read_before(file, written)
    for stage, record in finished.items():
        path = run.path(f"{stage}.json")
        for name, checksum in record.inputs.items():
            maker, output = written.get(name, ("", checksum))
            if output != checksum:
                text = f"{run} {stage}: it read another {name} than {maker} has written"
                yield Difference(path, text)
        missing = _needed(run, stage) - set(record.inputs)
        if missing:
            text = f"{run} {stage}: its record does not say which {min(missing)} it read"
            yield Difference(path, text)


def _read_before(file: SharedFile, written: Mapping[str, tuple[str, str]]) -> Iterator[Difference]:
    """Yield every input of a shared file that changed after it was read. written: of `_written`."""
    for name, checksum in read_record(file.record, Record).inputs.items():
        maker, output = written.get(name, ("", checksum))
        if output != checksum:
            text = f"{file.dataset} {file.kind}: it read another {name} than {maker} has written"
            yield Difference(file.record, text)


def _written(run: Run, finished: Mapping[str, Record], partly: bool) -> dict[str, tuple[str, str]]:
    """Return (the stage that wrote it, checksum) of every file, by path."""
    sources = {}
    if not partly or _data_path(run.dataset).is_file():
        sources[f"{run.dataset} data"] = data_record(run.dataset)
    for path in _weights_records(run, finished):
        if path.is_file() or not partly:
            sources[f"weights {path.stem}"] = read_record(path, Record)
    for file in shared_files([run], finished):
        if file.record.is_file() or not partly:
            sources[f"{run.dataset} {file.kind}"] = read_record(file.record, Record)
    sources |= {f"{run} {stage}": record for stage, record in finished.items()}
    return {
        path: (maker, checksum)
        for maker, record in sources.items()
        for path, checksum in record.outputs.items()
    }


def _weights_records(run: Run, stages: Collection[str]) -> list[Path]:
    """Return the records of the initial weights that the trainings among `stages` start from."""
    trained = (initial_weights(run.settings, stage) for stage in run.trained if stage in stages)
    names = {name for weights in trained for name in weights.values()}
    return [initial_weights_path(name).with_suffix(".json") for name in sorted(names)]


def _needed(run: Run, stage: str) -> set[str]:
    """Return files that a stage must have read: parts of the index, and the archive that is scored."""
    files = [*index_files(run, stage), *(file.path for file in shared_files([run], [stage]))]
    if stage.startswith("eval/"):
        scored = scored_artifact(stage.removeprefix("eval/"))
        files.append(run.path(f"{scored}.zip"))
    return {path.as_posix() for path in files}
