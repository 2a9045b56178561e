"""The last guard before a table: every record must be what the present configuration would make.

Reads records alone, no artifact: what a stage read must be, by its checksum, what the record of the
stage before says it wrote.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wsss.errors import StaleError
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
from wsss.storage.files import read_json

Record = dict[str, Any]

LISTED = 12  # differences named in one message
# Where a stage's settings stand in params.yaml, if not under the name of the stage.
SECTIONS = {
    "confident": "affinity.confident",
    "masks": "segmenter.test",
    "decode": "decoder",
    "data": "data",
}


def records(run: Run) -> dict[str, Record]:
    """Return the record of every stage of a run, in order; `MissingError` if one is absent."""
    return {stage: read_json(run.path(f"{stage}.json")) for stage in run.stages()}


def present(run: Run) -> dict[str, Record]:
    """Return the records of the stages of a run that are finished, in order."""
    paths = {stage: run.path(f"{stage}.json") for stage in run.stages()}
    return {stage: read_json(path) for stage, path in paths.items() if path.is_file()}


def data_record(dataset: str) -> Record:
    """Return the record of a dataset."""
    found: Record = read_json(WORK / dataset / "data.json")
    return found


def verify(*runs: Run, partly: bool = False) -> None:
    """Stop unless every record of `runs` fits the present parameters, code, seed and inputs.

    partly: stages that are not finished are passed over instead of missed.

    Raises:
        StaleError: with the differing keys of all runs.
    """
    found = list(dict.fromkeys(line for run in runs for line in differences(run, partly)))
    if found:
        more = f"; and {len(found) - LISTED} more" if len(found) > LISTED else ""
        raise StaleError(
            f"The results are out of date: {'; '.join(found[:LISTED])}{more}. "
            "Run `snakemake` again; it remakes what differs."
        )


def differences(run: Run, partly: bool = False) -> Iterator[str]:
    """Yield a phrase for each way in which the records of a run are not the current ones."""
    made = present(run) if partly else records(run)
    yield from _against(
        f"{run.dataset} data",
        data_record(run.dataset),
        data_slice(run.params, run.dataset),
        data_code(run.dataset),
        f"data.{run.dataset}",
    )
    for stage, record in made.items():
        section = "" if stage.startswith("eval/") else SECTIONS.get(stage, stage_kind(stage))
        yield from _against(f"{run} {stage}", record, run.slice(stage), run.code(stage), section)
        if record.get("seed") is not None and record["seed"] != run.seed:
            yield f"{run} {stage}: seed was {record['seed']}, is {run.seed}"
    yield from _broken_chain(run, made)


def _against(
    who: str, record: Mapping[str, Any], params: Mapping[str, Any], code: str, section: str
) -> Iterator[str]:
    """Yield how the settings and the code of a record differ from the present ones."""
    for key, was, now in changes(record.get("params", {}), params, section):
        yield f"{who}: {key} was {was}, is {now}"
    if record.get("code") != code:
        yield f"{who}: code was {record.get('code')}, is {code}"


def changes(was: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted key, old value, new value) wherever two nested mappings differ."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for name in sorted({*was, *now}):
            inner = f"{key}.{name}" if key else name
            yield from changes(was.get(name, "absent"), now.get(name, "absent"), inner)
    elif was != now:
        yield key, was, now


def _broken_chain(run: Run, made: Mapping[str, Record]) -> Iterator[str]:
    """Yield every input whose checksum is not that of the output it should be."""
    written = _written(run, made)
    for stage, record in made.items():
        for path, checksum in record.get("inputs", {}).items():
            maker, output = written.get(path, ("", checksum))
            if output != checksum:
                yield f"{run} {stage}: it read another {path} than {maker} has written"
        missing = _needed(run, stage) - set(record.get("inputs", {}))
        if missing:
            yield f"{run} {stage}: its record does not say which {min(missing)} it read"


def _written(run: Run, made: Mapping[str, Record]) -> dict[str, tuple[str, str]]:
    """Return who made each file, and its checksum, by path."""
    sources = {f"{run.dataset} data": data_record(run.dataset)}
    sources |= {f"weights {path.stem}": read_json(path) for path in _pretrained(run, made)}
    sources |= {f"{run} {stage}": record for stage, record in made.items()}
    return {
        path: (maker, checksum)
        for maker, record in sources.items()
        for path, checksum in record.get("outputs", {}).items()
    }


def _pretrained(run: Run, made: Mapping[str, Record]) -> list[Path]:
    """Return the records of the initial weights that the trained networks of a run start from."""
    stages = (initial_weights(run.settings, stage) for stage in run.trained if stage in made)
    names = {name for found in stages for name in found.values()}
    return [initial_weights_path(name).with_suffix(".json") for name in sorted(names)]


def _needed(run: Run, stage: str) -> set[str]:
    """Return what an evaluation must have read: an index, and what it scores."""
    if not stage.startswith("eval/"):
        return set()
    scored = scored_artifact(stage.removeprefix("eval/"))
    return {run.index.as_posix(), run.path(f"{scored}.zip").as_posix()}
