"""The last guard before a table: every record must fit the present settings, code and seed.

It reads records and no artifact. The checksum of every input must equal the checksum in the record
of the stage that wrote this file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from wsss.errors import StaleError
from wsss.runs.record import Record, read_record
from wsss.runs.run import (
    WORK,
    Run,
    data_code,
    data_slice,
    initial_weights,
    initial_weights_path,
    scored_artifact,
    stage_kind,
)

LISTED = 12  # differences named in one message
# The section of params.yaml with the settings of a stage, if it is not named as the stage.
SECTIONS = {
    "confident": "affinity.confident",
    "masks": "segmenter.test",
    "data": "data",
}


def records(run: Run) -> dict[str, Record]:
    """Return the record of every stage of a run, in order; `MissingError` if one is absent."""
    return {stage: read_record(run.path(f"{stage}.json"), Record) for stage in run.stages()}


def present(run: Run) -> dict[str, Record]:
    """Return the records of the finished stages of a run, in order."""
    paths = {stage: run.path(f"{stage}.json") for stage in run.stages()}
    return {stage: read_record(path, Record) for stage, path in paths.items() if path.is_file()}


def data_record(dataset: str) -> Record:
    """Return the record of a dataset."""
    return read_record(WORK / dataset / "data.json", Record)


def verify(*runs: Run, partly: bool = False) -> None:
    """Stop unless every record of `runs` fits the present settings, code, seed and inputs.

    partly: skip stages that are not finished; otherwise they are an error.

    Raises:
        StaleError: with the differing keys of all runs.
    """
    lines = list(dict.fromkeys(line for run in runs for line in differences(run, partly)))
    if lines:
        more = f"; and {len(lines) - LISTED} more" if len(lines) > LISTED else ""
        raise StaleError(
            f"The results are out of date: {'; '.join(lines[:LISTED])}{more}. "
            "Run `snakemake` again; it remakes what differs."
        )


def differences(run: Run, partly: bool = False) -> Iterator[str]:
    """Yield a phrase for each way in which the records of a run do not fit the present."""
    finished = present(run) if partly else records(run)
    yield from _against(
        f"{run.dataset} data",
        data_record(run.dataset),
        data_slice(run.params, run.dataset),
        data_code(run.dataset),
        f"data.{run.dataset}",
    )
    for stage, record in finished.items():
        section = "" if stage.startswith("eval/") else SECTIONS.get(stage, stage_kind(stage))
        yield from _against(f"{run} {stage}", record, run.slice(stage), run.code(stage), section)
        if record.seed is not None and record.seed != run.seed:
            yield f"{run} {stage}: seed was {record.seed}, is {run.seed}"
    yield from _broken_chain(run, finished)


def _against(
    name: str, record: Record, params: Mapping[str, object], code: str, section: str
) -> Iterator[str]:
    """Yield how the settings and the code of a record differ from the present ones."""
    for key, was, now in changes(record.params, params, section):
        yield f"{name}: {key} was {was}, is {now}"
    if record.code != code:
        yield f"{name}: code was {record.code}, is {code}"


def changes(was: object, now: object, key: str = "") -> Iterator[tuple[str, object, object]]:
    """Yield (dotted key, old value, new value) wherever two nested mappings differ."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for name in sorted({*was, *now}):
            inner = f"{key}.{name}" if key else name
            yield from changes(was.get(name, "absent"), now.get(name, "absent"), inner)
    elif was != now:
        yield key, was, now


def _broken_chain(run: Run, finished: Mapping[str, Record]) -> Iterator[str]:
    """Yield every input that changed after it was read, and every input that is not recorded."""
    written = _written(run, finished)
    for stage, record in finished.items():
        for path, checksum in record.inputs.items():
            maker, output = written.get(path, ("", checksum))
            if output != checksum:
                yield f"{run} {stage}: it read another {path} than {maker} has written"
        missing = _needed(run, stage) - set(record.inputs)
        if missing:
            yield f"{run} {stage}: its record does not say which {min(missing)} it read"


def _written(run: Run, finished: Mapping[str, Record]) -> dict[str, tuple[str, str]]:
    """Return (the stage that wrote it, checksum) of every file, by path."""
    sources = {f"{run.dataset} data": data_record(run.dataset)}
    for path in _pretrained(run, finished):
        sources[f"weights {path.stem}"] = read_record(path, Record)
    sources |= {f"{run} {stage}": record for stage, record in finished.items()}
    return {
        path: (maker, checksum)
        for maker, record in sources.items()
        for path, checksum in record.outputs.items()
    }


def _pretrained(run: Run, finished: Mapping[str, Record]) -> list[Path]:
    """Return the records of the initial weights that the trained networks of a run start from."""
    stages = [stage for stage in run.trained if stage in finished]
    names = {name for s in stages for name in initial_weights(run.settings, s).values()}
    return [initial_weights_path(name).with_suffix(".json") for name in sorted(names)]


def _needed(run: Run, stage: str) -> set[str]:
    """Return the files that an evaluation must have read: the index and the archive it scores."""
    if not stage.startswith("eval/"):
        return set()
    scored = scored_artifact(stage.removeprefix("eval/"))
    return {run.index.as_posix(), run.path(f"{scored}.zip").as_posix()}
