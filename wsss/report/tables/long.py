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
from wsss.report.tables.rows import ACCEPTED, SOFTWARE, Line, Row, ordered, stage_title

CONVENTIONS = {
    "A": "classes in the truth or in the prediction",
    "B": "classes in the truth",
    "C": "all classes, absent ones as 0",
}
GAIN = "gain over CAM"
PARAMETERS = "parameters, millions"
IMAGES_SEEN = "images seen, thousands"
BELOW = "learned from more than image labels"  # the words of the line above such rows
NOTES = {  # what a column is, said where the table has it
    GAIN: "difference of the mean mIoU, in brackets the 95 % interval of a bootstrap over seeds and "
    "images; one run: of one training, which has no such interval",
    "thresholds": "how they were chosen: fixed in the settings, published in the paper, or the best "
    "for the masks of so many training images, which are not scored",
    "extra knowledge": "what a row has learned from beyond image labels of the images and ImageNet-1k "
    "weights",
    PARAMETERS: "of all networks that the row depends on",
    IMAGES_SEEN: "in the trainings of these networks",
}


@dataclass(frozen=True)
class Column:
    """One column of the table.

    text: from a row to its cell. is_protocol: the column may be left out if all rows agree.
    is_of_networks: it is about the networks; the page has such columns in a table of their own.
    """

    head: str
    text: Callable[[Row], str]
    is_protocol: bool = False
    is_number: bool = False
    is_of_networks: bool = False


def percent(value: float | None, sign: str = "") -> str:
    """Return a score in [0, 1] as percent with one decimal; an empty text for None."""
    return "" if value is None else f"{100 * value:{sign}.1f}"


def miou(row: Row) -> str:
    """Return the mIoU of a row in percent, with its deviation over seeds if there are several."""
    spread = "" if row.sd is None else f" ± {percent(row.sd)}"
    return percent(row.miou) + spread


def _span(levels: tuple[float, float] | None) -> str:
    """Return the smallest and the largest threshold of the seeds, or the one that all have."""
    return "" if levels is None else " to ".join(f"{level:g}" for level in dict.fromkeys(levels))


def _software(name: str) -> Callable[[Row], str]:
    return lambda row: str(getattr(row, name))


def _best(row: Row) -> str:
    if row.best_miou is None:
        return ""
    return f"{percent(row.best_miou)} at {_span(row.best_thresholds)}"


def _gain(row: Row) -> str:
    if row.gain is None:
        return ""
    if row.gain_low is None:
        return f"{percent(row.gain, '+')} (one run)"
    low, high = percent(row.gain_low, "+"), percent(row.gain_high, "+")
    return f"{percent(row.gain, '+')} ({low} to {high})"


def _choice(row: Row) -> str:
    """Return how the thresholds behind a row were chosen."""
    images = row.calibration_images
    choices = {"calibrated": f"{images} masks", "none": ""}
    return choices.get(row.threshold_choice, row.threshold_choice)


def _images(row: Row) -> str:
    left_out = f", {row.unscored} without a mask" if row.unscored else ""
    return f"{row.split} ({row.images}{left_out})"


def _coverage(row: Row) -> str:
    """Return the share of labelled pixels, and what the rest counts as."""
    rest = f" (rest: {row.unlabelled})" if row.coverage < 1 and row.unlabelled else ""
    return percent(row.coverage) + rest


def _views(row: Row) -> str:
    """Return the scales at test, and whether mirror images were used."""
    return row.scales + (", mirrored" if row.mirror == "yes" else "")


def _count(number: int | None, unit: int) -> str:
    """Return a number in a unit with one decimal, small numbers with two digits."""
    if number is None:
        return ""
    value = number / unit
    return f"{value:,.1f}" if value >= 1 else f"{value:.2g}"


COLUMNS = (
    Column("dataset", lambda row: row.dataset, is_protocol=True),
    Column("method", lambda row: row.title + ACCEPTED * bool(row.accepted)),
    Column("protocol", lambda row: row.protocol, is_protocol=True),
    Column("stage", lambda row: stage_title(row.stage)),
    Column("mIoU %", miou, is_number=True),
    Column("without CRF %", lambda row: percent(row.miou_before_crf), is_number=True),
    Column(GAIN, _gain, is_number=True),
    Column("threshold", lambda row: _span(row.threshold), is_number=True),
    Column("thresholds", _choice, is_protocol=True),
    Column("oracle mIoU %", _best, is_number=True),
    Column("published %", lambda row: percent(row.published), is_number=True),
    Column("difference", lambda row: percent(row.difference, "+"), is_number=True),
    Column("extra knowledge", lambda row: row.extra, is_protocol=True),
    Column("pre-training", lambda row: row.pretraining, is_protocol=True, is_of_networks=True),
    Column(PARAMETERS, lambda row: _count(row.parameters, 10**6), True, True, is_of_networks=True),
    Column(IMAGES_SEEN, lambda row: _count(row.images_seen, 1000), True, True, is_of_networks=True),
    Column("seeds", lambda row: str(row.seeds), is_protocol=True, is_number=True),
    Column("split (images)", _images, is_protocol=True),
    Column("labels at test", lambda row: "known" if row.labels_used else "no", is_protocol=True),
    Column("supervision", lambda row: row.supervision, is_protocol=True, is_of_networks=True),
    Column("scales at test", _views, is_protocol=True, is_of_networks=True),
    Column("CRF", lambda row: row.crf, is_protocol=True),
    Column("classes averaged", lambda row: row.convention, is_protocol=True),
    Column("labelled pixels %", _coverage, is_protocol=True),
    Column("eroded by px", lambda row: str(row.erode_px or ""), is_protocol=True),
    Column("networks, initial weights", lambda row: row.networks, True, is_of_networks=True),
    *(Column(name, _software(name), True, is_of_networks=True) for name in SOFTWARE),
)


@dataclass(frozen=True)
class Layout:
    """A table for reading: the columns that differ between rows, and the values that all share.

    rows: in the order of the table. shared: from the head of a left-out column to its value. cells: by
    row and column. sources: the papers with published numbers.
    """

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    shared: Mapping[str, str]
    cells: tuple[tuple[str, ...], ...]
    sources: tuple[str, ...]

    @property
    def heads(self) -> list[str]:
        """The heads of the columns."""
        return [column.head for column in self.columns]

    @property
    def lines_below(self) -> list[int]:
        """The rows before which the line stands: the first of each dataset that belong below it."""
        pairs = zip(self.rows, (None, *self.rows), strict=False)
        return [
            place
            for place, (row, before) in enumerate(pairs)
            if row.is_below and not (before and before.is_below and before.dataset == row.dataset)
        ]

    def notes(self) -> dict[str, str]:
        """Return what the columns are, by head, where they need a word."""
        return {head: NOTES[head] for head in (*self.heads, *self.shared) if head in NOTES}

    def caption(self) -> str:
        """Return the shared values in one sentence, or an empty text, and what the columns are."""
        values = "; ".join(f"{head}: {value}" for head, value in self.shared.items())
        notes = [f"{head[0].upper()}{head[1:]}: {note}." for head, note in self.notes().items()]
        return " ".join([f"In all rows {values}." if values else "", *notes, *self.marks]).strip()

    @property
    def marks(self) -> list[str]:
        """What the mark of rows with accepted results of earlier code means, if there are any."""
        return accepted_notes(row.accepted for row in self.rows)


def layout(table: Sequence[Row]) -> Layout:
    """Leave out empty columns, and protocol columns with one value in several rows."""
    rows = ordered(table)
    columns, shared = [], {}
    for column in COLUMNS:
        values = {column.text(row) for row in rows}
        if values <= {""}:
            continue
        is_shared = len(rows) > 1 or column.head in SOFTWARE
        if column.is_protocol and len(values) == 1 and is_shared:
            shared[column.head] = _explained(column.head, values.pop())
        else:
            columns.append(column)
    sources = tuple(dict.fromkeys(f"{row.title}: {row.source}" for row in rows if row.source))
    cells = tuple(tuple(column.text(row) for column in columns) for row in rows)
    return Layout(tuple(rows), tuple(columns), _joined(shared), cells, sources)


def accepted_notes(accepted: Iterable[str]) -> list[str]:
    """Return a sentence with the reasons of accepted rows; an empty list if there are none."""
    texts = dict.fromkeys(filter(None, accepted))
    return [f"{ACCEPTED} Of earlier code, accepted because: {'; '.join(texts)}."] if texts else []


def _joined(shared: Mapping[str, str]) -> dict[str, str]:
    """Return shared values with all versions, devices and precisions as one."""
    joined = {head: value for head, value in shared.items() if head not in SOFTWARE}
    software = [
        value if head in ("device", "precision") else f"{head} {value}"
        for head, value in shared.items()
        if head in SOFTWARE
    ]
    return {**joined, **({"made with": ", ".join(software)} if software else {})}


def _explained(head: str, value: str) -> str:
    return f"{value} ({CONVENTIONS[value]})" if head == "classes averaged" else value


def to_csv(rows: Iterable[Row]) -> str:
    """Return the whole table with every field of every row; scores in [0, 1]."""
    return csv_text([_flat(row) for row in rows], [*Row.__dataclass_fields__, "difference"])


def _flat(row: Row) -> Line:
    gains = " ".join(f"{value:g}" for value in row.gain_by_seed or ())
    spans = {name: _span(getattr(row, name)) for name in ("threshold", "best_thresholds")}
    return {**asdict(row), **spans, "gain_by_seed": gains, "difference": row.difference}


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
    body = grid(table.heads, table.cells, numbers, table.lines_below)
    return "\n".join(["", *body, "", *("\n\n".join(notes)).splitlines()]).strip("\n") + "\n"


def grid(
    heads: Sequence[str],
    lines: Sequence[Sequence[str]],
    numbers: Sequence[bool],
    below: Sequence[int] = (),
) -> list[str]:
    """Return a table in Markdown with aligned columns; `numbers` marks the right-aligned ones.

    below: numbers of the lines above which a line with the words of `BELOW` stands.
    """
    marked: list[Sequence[str]] = []
    for place, texts in enumerate(lines):
        marked += [(f"↓ {BELOW}", *[""] * (len(heads) - 1))] if place in below else []
        marked.append(texts)
    cells = [[markdown(cell) for cell in texts] for texts in (heads, *marked)]
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
    lines = dict.fromkeys(table.lines_below, BELOW)
    return latex.environment(table.heads, table.cells, numbers, caption, "wsss-table", above=lines)
