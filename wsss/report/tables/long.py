"""The results table in four formats: CSV for programs, Markdown, LaTeX and HTML for people.

Names come from users and from the data of other people, so each format escapes them in its own
way. Columns with the same value in all rows are left out and named once, above the table.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from wsss.report.tables import latex
from wsss.report.tables.rows import Line, Row, stage_title

CONVENTIONS = {
    "A": "classes in the truth or in the prediction",
    "B": "classes in the truth",
    "C": "all classes, absent ones as 0",
}


@dataclass(frozen=True)
class Column:
    """One column of the table.

    text: from a row to its cell. is_protocol: the column may be left out if all rows agree.
    """

    head: str
    text: Callable[[Row], str]
    is_protocol: bool = False
    is_number: bool = False


def percent(value: float | None, sign: str = "") -> str:
    """Return a score in [0, 1] as percent with one decimal; an empty text for None."""
    return "" if value is None else f"{100 * value:{sign}.1f}"


def miou(row: Row) -> str:
    """Return the mIoU of a row in percent, with its deviation over seeds if there are several."""
    spread = "" if row.sd is None else f" ± {percent(row.sd)}"
    return percent(row.miou) + spread


def _level(threshold: float | None) -> str:
    return "" if threshold is None else f"{threshold:g}"


def _best(row: Row) -> str:
    if row.best_miou is None or row.best_thresholds is None:
        return ""
    low, high = map(_level, row.best_thresholds)
    return f"{percent(row.best_miou)} at {low if low == high else f'{low} to {high}'}"


def _gain(row: Row) -> str:
    if row.gain is None:
        return ""
    low, high = percent(row.gain_low, "+"), percent(row.gain_high, "+")
    return f"{percent(row.gain, '+')} ({low} to {high})"


COLUMNS = (
    Column("dataset", lambda row: row.dataset, is_protocol=True),
    Column("method", lambda row: row.title),
    Column("protocol", lambda row: row.protocol, is_protocol=True),
    Column("stage", lambda row: stage_title(row.stage)),
    Column("mIoU %", miou, is_number=True),
    Column("gain over CAM (95 % of resampled images)", _gain, is_number=True),
    Column("threshold", lambda row: _level(row.threshold), is_number=True),
    Column("oracle mIoU %", _best, is_number=True),
    Column("published %", lambda row: percent(row.published), is_number=True),
    Column("difference", lambda row: percent(row.difference, "+"), is_number=True),
    Column("seeds", lambda row: str(row.seeds), is_protocol=True, is_number=True),
    Column("split (images)", lambda row: f"{row.split} ({row.images})", is_protocol=True),
    Column("labels at test", lambda row: "known" if row.labels_used else "no", is_protocol=True),
    Column("supervision", lambda row: row.supervision, is_protocol=True),
    Column("CRF", lambda row: row.crf, is_protocol=True),
    Column("classes averaged", lambda row: row.convention, is_protocol=True),
    Column("labelled pixels %", lambda row: percent(row.coverage), is_protocol=True),
    Column("networks, initial weights", lambda row: row.networks, is_protocol=True),
)


@dataclass(frozen=True)
class Layout:
    """A table for reading: the columns that differ between rows, and the values that all share.

    shared: from the head of a left-out column to its value. cells: by row and column. sources: the
    papers with published numbers.
    """

    columns: tuple[Column, ...]
    shared: Mapping[str, str]
    cells: tuple[tuple[str, ...], ...]
    sources: tuple[str, ...]

    @property
    def heads(self) -> list[str]:
        """The heads of the columns."""
        return [column.head for column in self.columns]

    def caption(self) -> str:
        """Return the shared values in one sentence, or an empty text."""
        values = "; ".join(f"{head}: {value}" for head, value in self.shared.items())
        return f"In all rows {values}." if values else ""


def layout(rows: Sequence[Row]) -> Layout:
    """Leave out empty columns, and protocol columns with one value in several rows."""
    columns, shared = [], {}
    for column in COLUMNS:
        values = {column.text(row) for row in rows}
        if values <= {""}:
            continue
        if column.is_protocol and len(values) == 1 and len(rows) > 1:
            shared[column.head] = _explained(column.head, values.pop())
        else:
            columns.append(column)
    sources = tuple(dict.fromkeys(f"{row.title}: {row.source}" for row in rows if row.source))
    cells = tuple(tuple(column.text(row) for column in columns) for row in rows)
    return Layout(tuple(columns), shared, cells, sources)


def _explained(head: str, value: str) -> str:
    return f"{value} ({CONVENTIONS[value]})" if head == "classes averaged" else value


def to_csv(rows: Iterable[Row]) -> str:
    """Return the whole table with every field of every row; scores in [0, 1]."""
    return csv_text([_flat(row) for row in rows], [*Row.__dataclass_fields__, "difference"])


def _flat(row: Row) -> Line:
    levels = row.best_thresholds
    shown = None if levels is None else " to ".join(f"{level:g}" for level in dict.fromkeys(levels))
    return {**asdict(row), "best_thresholds": shown, "difference": row.difference}


def csv_text(lines: Iterable[Mapping[str, object]], heads: Sequence[str]) -> str:
    """Return lines as CSV; a text that a spreadsheet would run as a formula gets a quote mark."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, heads, lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow({head: _harmless(line[head]) for head in heads})
    return buffer.getvalue()


def unguarded(text: str) -> str:
    """Return a cell of `csv_text` without the quote mark that guards it."""
    return text[1:] if text[:1] == "'" and _harmless(text[1:]) == text else text


def _harmless(value: object) -> object:
    if not isinstance(value, str):
        return value
    is_formula = value.lstrip()[:1] in ("=", "+", "-", "@") or value[:1] in ("\t", "\r")
    text = value.replace(
        "\r", " "
    )  # the writer does not quote it, and some readers end a line there
    return f"'{text}" if is_formula else text


def to_markdown(rows: Sequence[Row]) -> str:
    """Return the table with aligned columns, readable in a terminal too."""
    if not rows:
        return "No run yields masks.\n"
    table = layout(rows)
    numbers = [column.is_number for column in table.columns]
    notes = [markdown(note) for note in (table.caption(), *table.sources) if note]
    body = grid(table.heads, table.cells, numbers)
    return "\n".join(["", *body, "", *("\n\n".join(notes)).splitlines()]).strip("\n") + "\n"


def grid(
    heads: Sequence[str], lines: Sequence[Sequence[str]], numbers: Sequence[bool]
) -> list[str]:
    """Return a table in Markdown with aligned columns; `numbers` marks the right-aligned ones."""
    cells = [[markdown(cell) for cell in line] for line in (heads, *lines)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]

    def line(parts: Sequence[str]) -> str:
        aligned = (
            part.rjust(width) if number else part.ljust(width)
            for part, width, number in zip(parts, widths, numbers, strict=True)
        )
        return f"| {' | '.join(aligned)} |"

    rule = [
        "-" * (width - 1) + (":" if number else "-")
        for width, number in zip(widths, numbers, strict=True)
    ]
    return [line(cells[0]), line(rule), *map(line, cells[1:])]


def markdown(text: str) -> str:
    """Return text on one line, with the marks of Markdown escaped."""
    single = " ".join(text.split())
    return re.sub(r"([\\`*_\[\]<>|$])", r"\\\1", single)


def to_latex(rows: Sequence[Row]) -> str:
    """Return a booktabs table; needs the packages booktabs and graphicx."""
    table = layout(rows)
    caption = " ".join(("mIoU in %.", table.caption(), *(f"{source}." for source in table.sources)))
    numbers = [column.is_number for column in table.columns]
    return latex.environment(table.heads, table.cells, numbers, caption)
