"""Acceptance of results of earlier code, by a person who knows that the change alters no result.

A record then names the old and the new code, the reason, the date and the commit. Snakemake keeps the
code that it has noted: `noted_code` gives it that code for as long as the present code is accepted.
Imports neither torch nor timm.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wsss.errors import ConfigError, StaleError
from wsss.runs.inputs import data_code, initial_weights, initial_weights_path, weights_code
from wsss.runs.origin import commit
from wsss.runs.record import Acceptance, Record, read_record
from wsss.runs.run import Run
from wsss.runs.shared import KINDS, shared_files
from wsss.runs.sources import stages_before
from wsss.runs.staleness import LISTED, code_change, data_differences, differences
from wsss.storage.files import read_json, write_json

NOTED = Path(".snakemake/wsss/accepted.json")
DATA, WEIGHTS = "data", "weights"


@dataclass(frozen=True)
class Target:
    """The record of a stage, a dataset or initial weights, with the present code behind it."""

    name: str
    path: Path
    code: str


def accept(run: Run, because: str, stage: str | None = None) -> list[str]:
    """Accept the present code for the records of a run; return a line for each record that changed.

    stage: accept it for this stage alone, or for `data` or `weights`. The dataset and the initial
    weights are those of all runs.

    Raises:
        StaleError: more than the code differs.
    """
    if not because.strip():
        raise ConfigError("--because is empty. Say why the new code gives the same results.")
    present = list(_targets(run))
    chosen = [target for target in present if stage in (None, target.name.split(" ")[0])]
    if not chosen:
        names = ", ".join(dict.fromkeys(target.name.split(" ")[0] for target in present))
        raise ConfigError(f"{run} has no finished stage {stage}; there are: {names or 'none'}.")
    records = {target: read_record(target.path, Record) for target in chosen}
    _refuse_others(run, records)
    changed = {
        target: record for target, record in records.items() if not record.is_of(target.code)
    }
    for target, record in changed.items():
        _write(target, record, because)
    return [
        f"{run} {target.name}: {code_change(rec, target.code)}" for target, rec in changed.items()
    ]


def _targets(run: Run) -> Iterator[Target]:
    """Yield the records that a run rests on, if they are there, with the present code."""
    for name, path in _record_paths(run).items():
        yield Target(name, path, _code(run, name))


def _record_paths(run: Run) -> dict[str, Path]:
    """Return the records that a run rests on, by the names of `Target`, if they are there."""
    names = {
        name for stage in run.trained for name in initial_weights(run.settings, stage).values()
    }
    files = {name: initial_weights_path(name, run.work) for name in sorted(names)}
    paths = {
        DATA: run.work / run.dataset / "data.json",
        **{f"{WEIGHTS} {name}": path.with_suffix(".json") for name, path in files.items()},
        **{f"{file.kind} {file.name}": file.record for file in shared_files([run])},
        **{stage: run.path(f"{stage}.json") for stage in run.stages()},
    }
    return {name: path for name, path in paths.items() if path.is_file()}


def _code(run: Run, name: str) -> str:
    """Return the fingerprint of the present code behind a record; it takes a second or more."""
    if name == DATA:
        return data_code(run.dataset)
    for file in shared_files([run]):
        if name == f"{file.kind} {file.name}":
            return file.code()
    return weights_code() if name.startswith(f"{WEIGHTS} ") else run.code(name)


def _refuse_others(run: Run, records: dict[Target, Record]) -> None:
    """Stop if more than the code differs from what the records say."""
    stages = {target.name for target in records} - {DATA}
    reasons = [*differences(run, partly=True, stages=stages)]
    if any(target.name == DATA for target in records):
        reasons += data_differences(run)
    of_code = {
        (target.path, f": {code_change(record, target.code)}") for target, record in records.items()
    }
    others = [
        str(reason)
        for reason in reasons
        if not any(reason.record == path and str(reason).endswith(text) for path, text in of_code)
    ]
    if others:
        more = f"; and {len(others) - LISTED} more" if len(others) > LISTED else ""
        raise StaleError(
            f"More than the code differs: {'; '.join(others[:LISTED])}{more}. Run `snakemake`, which "
            "remakes that, or undo it; a change of code alone can be accepted."
        )


def _write(target: Target, record: Record, because: str) -> None:
    """Add the acceptance to a record, whose time stays, and to what Snakemake is told."""
    acceptance = Acceptance(
        was=record.code,
        now=target.code,
        because=" ".join(because.split()),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        commit=commit()[0],
    )
    noted = _noted()
    codes = noted.setdefault(target.path.as_posix(), {})
    codes[target.code] = codes.get(record.code, record.code)
    write_json(NOTED, noted)
    status, content = target.path.stat(), read_json(target.path)
    accepted = [item.model_dump() for item in (*record.accepted, acceptance)]
    write_json(target.path, {**content, "accepted": accepted})
    os.utime(target.path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _noted() -> dict[str, dict[str, str]]:
    """Return, by record and present code, the code that Snakemake has noted."""
    return dict(read_json(NOTED)) if NOTED.is_file() else {}


def noted_code(record: Path, code: str) -> str:
    """Return the code that Snakemake has noted for a record, if `code` was accepted in its place."""
    return _noted().get(record.as_posix(), {}).get(code, code)


def acceptances(run: Run, stage: str) -> dict[str, tuple[Acceptance, ...]]:
    """Return what was accepted of a stage and of all that it depends on, by name."""
    names = {stage, DATA, *stages_before(run, stage)}
    return {
        name: record.accepted
        for name, path in _record_paths(run).items()
        if name in names or name.startswith(tuple(f"{kind} " for kind in (WEIGHTS, *KINDS)))
        if (record := read_record(path, Record)).accepted
    }


def accepted_texts(run: Run) -> list[str]:
    """Return the acceptances of a run as text that changes with them; none if nothing is noted."""
    if not NOTED.is_file():
        return []
    texts = (
        f"{path}:{acceptance.now}:{acceptance.because}"
        for path in _record_paths(run).values()
        for acceptance in read_record(path, Record).accepted
    )
    return sorted(texts)
