"""Which evaluations a table is made of: those of a chosen subset, or of files from anywhere."""

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
from wsss.report.tables.rows import Row, Score, read, stage_order
from wsss.runs.run import Run, planned_runs
from wsss.settings import Params

Localization = tuple[Run, dict[str, Any]]


@dataclass(frozen=True)
class Selection:
    """What is wanted of each kind; nothing named means all of it. Stages: as `seed`, `seed-pc`."""

    methods: Sequence[str] = ()
    datasets: Sequence[str] = ()
    protocols: Sequence[str] = ()
    stages: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.methods or self.datasets or self.protocols or self.stages)

    def has(self, run: Run | Row) -> bool:
        """Return whether a run or a row is of a wanted method, dataset and protocol."""
        pairs = (
            (self.methods, run.method),
            (self.datasets, run.dataset),
            (self.protocols, run.protocol),
        )
        return all(not wanted or own in wanted for wanted, own in pairs)

    def has_stage(self, what: str) -> bool:
        """Return whether an evaluation is of a wanted stage."""
        return not self.stages or what in self.stages

    def check(self, there: Iterable[tuple[str, str, str, str]]) -> None:
        """Stop at a name that is not among what is there: (method, dataset, protocol, stage)."""
        kinds = ("method", "dataset", "protocol", "stage")
        wanted = (self.methods, self.datasets, self.protocols, self.stages)
        columns = [set(column) for column in zip(*there, strict=True)] or [set()] * len(kinds)
        for kind, names, found in zip(kinds, wanted, columns, strict=True):
            for name in names:
                if name not in found:
                    raise ConfigError(
                        f"--{kind} {name}: there is none. There are: {', '.join(sorted(found))}."
                    )


def runs(params: Params, wanted: Selection) -> list[Run]:
    """Return the runs that the parameters and the selection name; an error if there is none."""
    planned = list(planned_runs(params))
    if not planned:
        raise ConfigError("No run is selected: no method of `methods` has a published protocol.")
    wanted.check(
        (run.method, run.dataset, run.protocol, what) for run in planned for what in run.scored
    )
    found = [run for run in planned if wanted.has(run)]
    found = [run for run in found if any(map(wanted.has_stage, run.scored))]
    if not found:
        raise ConfigError("No run is of all that is named. Name fewer methods, datasets or stages.")
    return found


def evaluations(sources: Sequence[Path]) -> tuple[list[Score], list[Localization]]:
    """Read evaluations: files, and all `eval/*.json` at any depth of folders.

    They say themselves what their runs were, so no parameters are needed.

    Raises:
        MissingError: a file is no evaluation, or is one that another file is as well.
    """
    scores: list[Score] = []
    located: list[Localization] = []
    seen: dict[tuple[str, str], Path] = {}
    params = Params()
    for path in _files(sources):
        if path.stem == "boxes":
            located.append(localization.read(path, params))
            key = (str(located[-1][0]), "boxes")
        else:
            scores.append(read(path, params))
            key = (str(scores[-1].run), scores[-1].what)
        if key in seen:
            raise MissingError(f"{seen[key]} and {path} are both {key[1]} of {key[0]}. Name one.")
        seen[key] = path
    runs = list(dict.fromkeys(score.group[:3] for score in scores))
    scores.sort(key=lambda score: (runs.index(score.group[:3]), stage_order(score.what)))
    return scores, located


def _files(sources: Sequence[Path]) -> Iterator[Path]:
    for source in sources:
        inside = sorted(source.rglob("eval/*.json")) if source.is_dir() else [source]
        if not inside:
            raise MissingError(f"The folder {source} has no eval/*.json. Name another one.")
        yield from inside


def read_table(path: Path) -> list[Row]:
    """Return the rows of a `table.csv`, which has every field in full.

    Raises:
        MissingError: the file is absent, or is another table.
    """
    try:
        lines = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        return [_row(line) for line in lines]
    except FileNotFoundError:
        raise MissingError(f"{path} is missing. Name a table.csv that is there.") from None
    except (KeyError, ValueError, TypeError) as error:
        raise MissingError(f"{path} is no table.csv ({error}). Name one of `wsss table`.") from None


def _row(line: dict[str, str]) -> Row:
    kinds = typing.get_type_hints(Row)
    return Row(**{name: _value(long.unguarded(line[name]), kinds[name]) for name in kinds})


def _value(text: str, kind: Any) -> Any:
    """Return the value that a cell of the CSV stands for."""
    if kind is str:
        return text
    if kind is bool:
        return {"True": True, "False": False}[text]
    if not text:
        return None
    if kind is int:
        return int(text)
    if kind == tuple[float, float] | None:
        low, _, high = text.partition(" to ")
        return float(low), float(high or low)
    return float(text)
