"""The evaluations of a table: a chosen subset of the runs, or files from anywhere."""

from __future__ import annotations

import csv
import io
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsss.errors import ConfigError, MissingError
from wsss.report.tables import localization, long
from wsss.report.tables.localization import BoxScore
from wsss.report.tables.rows import Row, Score, read, stage_order
from wsss.runs.run import Run, planned_runs
from wsss.settings import Params
from wsss.storage.content import refuse_pipe


@dataclass(frozen=True)
class Selection:
    """The chosen names of each kind; no name means all. Stages are such as `seed` and `seed-pc`."""

    methods: Sequence[str] = ()
    datasets: Sequence[str] = ()
    protocols: Sequence[str] = ()
    stages: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.methods or self.datasets or self.protocols or self.stages)

    def has(self, run: Run | Row) -> bool:
        """Return whether method, dataset and protocol of a run or a row are chosen."""
        pairs = (
            (self.methods, run.method),
            (self.datasets, run.dataset),
            (self.protocols, run.protocol),
        )
        return all(not names or name in names for names, name in pairs)

    def has_stage(self, what: str) -> bool:
        """Return whether the stage of an evaluation is chosen."""
        return not self.stages or what in self.stages

    def check(self, existing: Iterable[tuple[str, str, str, str]]) -> None:
        """Stop at a chosen name that nothing has; existing: (method, dataset, protocol, stage)."""
        kinds = ("method", "dataset", "protocol", "stage")
        chosen = (self.methods, self.datasets, self.protocols, self.stages)
        columns = [set(column) for column in zip(*existing, strict=True)] or [set()] * len(kinds)
        for kind, names, valid in zip(kinds, chosen, columns, strict=True):
            for name in names:
                if name not in valid:
                    raise ConfigError(
                        f"--{kind} {name}: there is none. There are: {', '.join(sorted(valid))}."
                    )


def runs(params: Params, selection: Selection) -> list[Run]:
    """Return the runs that the parameters and the selection name; an error if there is none."""
    planned = list(planned_runs(params))
    if not planned:
        raise ConfigError("No run is selected: no method of `methods` has a published protocol.")
    selection.check(
        (run.method, run.dataset, run.protocol, what) for run in planned for what in run.scored
    )
    chosen = [run for run in planned if selection.has(run)]
    chosen = [run for run in chosen if any(map(selection.has_stage, run.scored))]
    if not chosen:
        raise ConfigError(
            "No run has all the chosen names together. Name fewer methods, datasets or stages."
        )
    return chosen


def evaluations(sources: Sequence[Path]) -> tuple[list[Score], list[BoxScore]]:
    """Return the evaluations of masks and of boxes in files, and in `eval/*.json` below folders.

    An evaluation describes its run, so no parameters are needed.

    Raises:
        MissingError: a file is not an evaluation, or two files are the same evaluation.
    """
    scores: list[Score] = []
    box_scores: list[BoxScore] = []
    paths: dict[tuple[str, str], Path] = {}
    params = Params()
    for path in _files(sources):
        if path.stem == "boxes":
            box_scores.append(localization.read(path, params))
            key = (str(box_scores[-1].run), "boxes")
        else:
            scores.append(read(path, params))
            key = (str(scores[-1].run), scores[-1].what)
        if key in paths:
            raise MissingError(f"{paths[key]} and {path} are both {key[1]} of {key[0]}. Name one.")
        paths[key] = path
    runs = list(dict.fromkeys(score.group[:3] for score in scores))
    scores.sort(key=lambda score: (runs.index(score.group[:3]), stage_order(score.what)))
    return scores, box_scores


def _files(sources: Sequence[Path]) -> Iterator[Path]:
    for source in sources:
        inside = sorted(source.rglob("eval/*.json")) if source.is_dir() else [source]
        if not inside:
            raise MissingError(f"The folder {source} has no eval/*.json. Name another one.")
        yield from inside


def read_table(path: Path) -> list[Row]:
    """Return the rows of a `table.csv`, which has every field of every row.

    Raises:
        MissingError: the file is absent, or is another table.
    """
    try:
        refuse_pipe(path)
        lines = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
        columns = set(lines.fieldnames or ())
        if absent := [name for name in typing.get_type_hints(Row) if name not in columns]:
            raise ValueError(f"it has no column {absent[0]!r}")
        return [_row(line) for line in lines]
    except FileNotFoundError:
        raise MissingError(f"{path} is missing. Name a table.csv that is there.") from None
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise MissingError(
            f"{path} is not a table.csv ({error}). Name one that `wsss table` has written."
        ) from None


def _row(line: dict[str, str]) -> Row:
    kinds = typing.get_type_hints(Row)
    return Row(**{name: _value(long.unguarded(line[name]), kinds[name]) for name in kinds})


def _value(text: str, kind: object) -> Any:
    """Return the value of a cell of the CSV; kind: the type of the row's field."""
    if kind is str:
        return text
    if kind is bool:
        return {"True": True, "False": False}[text]
    if not text:
        return None
    if kind in (int, int | None):
        return int(text)
    if kind == tuple[float, ...] | None:
        return tuple(map(float, text.split()))
    if kind == tuple[float, float] | None:
        low, _, high = text.partition(" to ")
        return float(low), float(high or low)
    return float(text)
