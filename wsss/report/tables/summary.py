"""Compact tables: methods against stages, and classes against methods, mIoU and IoU in %.

The summary has one line for each method and a column for each stage under each protocol, with the
numbers of the papers if there are any. Numbers of a method that rest on more than image labels have a
line of their own, below all others. The rest of the protocol is in the long table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from wsss.report.tables import latex
from wsss.report.tables.long import BELOW, accepted_notes, grid, markdown, miou, percent
from wsss.report.tables.rows import (
    ACCEPTED,
    SOFTWARE,
    Row,
    Score,
    ordered,
    stage_order,
    stage_title,
)
from wsss.runs.knowledge import NONE
from wsss.runs.run import stage_kind

MARK = "†"  # of lines that were made with other software or devices than most
Column = tuple[str, Callable[[Row], str]]  # the head, and the function from a row to its cell


@dataclass(frozen=True)
class Wide:
    """A table of a dataset: words in the first columns and numbers in the others.

    groups: names above the heads after the first, each with the number of its columns. words: number
    of columns with words. below: number of the line above which the words of `long.BELOW` stand. kind: for
    the label of LaTeX.
    """

    dataset: str
    title: str
    groups: tuple[tuple[str, int], ...]
    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    note: str
    words: int = 1
    below: int | None = None
    kind: str = "summary"

    @property
    def numbers(self) -> list[bool]:
        """For each column, whether it holds numbers: all but the first few do."""
        return [place >= self.words for place in range(len(self.heads))]

    @property
    def lines_below(self) -> list[int]:
        """The line above which the words of `long.BELOW` stand, as a list."""
        return [] if self.below is None else [self.below]

    @property
    def starts(self) -> list[int]:
        """The columns that begin a group, counted from 0."""
        return [1 + sum(count for _, count in self.groups[:k]) for k in range(len(self.groups))]

    def full_heads(self) -> list[str]:
        """Return the heads, with the names of their groups if there are several groups."""
        names = [name for name, count in self.groups for _ in range(count)]
        if len(set(names) - {""}) < 2:
            return list(self.heads)
        pairs = zip(names, self.heads[1:], strict=True)
        full = [f"{name}: {head}" if name else head for name, head in pairs]
        return [self.heads[0], *full]


def summaries(rows: Sequence[Row]) -> list[Wide]:
    """Return a table for each dataset: a line for each method, columns for protocols and stages.

    Only the long table has the seeds of networks before the last one of a chain.
    """
    of_last = [row for row in rows if row.stage == stage_kind(row.stage)]
    datasets = dict.fromkeys(row.dataset for row in of_last)
    return [_summary(name, [row for row in of_last if row.dataset == name]) for name in datasets]


def _summary(dataset: str, rows: Sequence[Row]) -> Wide:
    columns = {
        (protocol, stage): _columns([r for r in rows if (r.protocol, r.stage) == (protocol, stage)])
        for protocol in dict.fromkeys(row.protocol for row in rows)
        for stage in sorted({r.stage for r in rows if r.protocol == protocol}, key=stage_order)
    }
    by_place = {(row.title, row.is_below, row.protocol, row.stage): row for row in rows}
    lines: list[tuple[str, ...]] = []
    below = None
    for title, is_below in dict.fromkeys((row.title, row.is_below) for row in ordered(rows)):
        line_rows = [row for row in rows if (row.title, row.is_below) == (title, is_below)]
        below = len(lines) if is_below and below is None else below
        marks = MARK * any(map(_is_odd(rows), line_rows))
        marks += ACCEPTED * any(row.accepted for row in line_rows)
        line = [title + marks, _extra(line_rows)]
        for place, stage_columns in columns.items():
            row = by_place.get((title, is_below, *place))
            line += [text(row) if row else "" for _, text in stage_columns]
        lines.append(tuple(line))
    widths: dict[str, int] = {"": 1}
    for (protocol, _), stage_columns in columns.items():
        widths[protocol] = widths.get(protocol, 0) + len(stage_columns)
    stage_heads = (head for stage_columns in columns.values() for head, _ in stage_columns)
    heads = ("method", "extra knowledge", *stage_heads)
    groups = tuple(widths.items())
    return Wide(dataset, dataset, groups, heads, tuple(lines), _note(rows), words=2, below=below)


def _extra(rows: Sequence[Row]) -> str:
    """Return the extra knowledge of all numbers of a line, by protocol if the protocols differ."""
    by_protocol: dict[str, dict[str, None]] = {}
    for row in rows:
        words = by_protocol.setdefault(row.protocol, {})
        words |= dict.fromkeys(part for part in row.extra.split(", ") if part not in ("", NONE))
    texts = {protocol: ", ".join(words) for protocol, words in by_protocol.items()}
    if not any(row.extra for row in rows):
        return ""
    if len(set(texts.values())) == 1:
        return next(iter(texts.values())) or NONE
    return "; ".join(f"{protocol}: {words or NONE}" for protocol, words in texts.items())


def _is_odd(rows: Sequence[Row]) -> Callable[[Row], bool]:
    """Return whether a row was made with another version, device or precision than most of `rows`."""
    usual = {}
    for name in SOFTWARE:
        values = Counter(value for row in rows if (value := getattr(row, name)))
        usual[name] = values.most_common(1)[0][0] if values else ""
    return lambda row: any(getattr(row, name) not in ("", usual[name]) for name in SOFTWARE)


def _columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns of one stage: mIoU; paper and difference, if a row has a paper's number."""
    columns: list[Column] = [(stage_title(rows[0].stage), miou)]
    if any(row.miou_before_crf is not None for row in rows):
        columns.append(("without CRF", lambda row: percent(row.miou_before_crf)))
    if any(row.published is not None for row in rows):
        columns.append(("paper", lambda row: percent(row.published)))
        columns.append(("difference", lambda row: percent(row.difference, "+")))
    return columns


def _note(rows: Sequence[Row]) -> str:
    """Return the note below a summary: what the numbers are, over which seeds and images."""
    spread = " ± standard deviation" if any(row.sd is not None for row in rows) else ""
    seeds = sorted({row.seeds for row in rows})
    over = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    papers = dict.fromkeys(f"{row.title}: {row.source}" for row in rows if row.source)
    notes = [f"mIoU in %, mean{spread} over {over} seed{'s' * (over != '1')}. {_images(rows)}."]
    if software := _software_note(rows):
        notes.append(software)
    notes += accepted_notes(row.accepted for row in rows)
    return " ".join([*notes, *(f"Published by {paper}." for paper in papers)])


def _images(rows: Sequence[Row]) -> str:
    """Return which images each stage is scored on, by protocol where the protocols differ."""
    by_stage: dict[str, dict[str, dict[str, None]]] = {}
    for row in sorted(rows, key=lambda row: stage_order(row.stage)):
        labels = "known" if row.labels_used else "not known"
        images = f"{row.split}, {row.images} images, labels {labels}"
        by_stage.setdefault(stage_title(row.stage), {}).setdefault(images, {})[row.protocol] = None
    stages: dict[tuple[str, str], list[str]] = {}
    for stage, used in by_stage.items():
        for images, protocols in used.items():
            under = f" under {', '.join(protocols)}" if len(used) > 1 else ""
            stages.setdefault((under, images), []).append(stage)
    parts = (f"{', '.join(names)}{under}: {images}" for (under, images), names in stages.items())
    return "; ".join(parts)


def _software_note(rows: Sequence[Row]) -> str:
    """Return which versions, devices and precisions differ between the rows of a summary."""
    values = {
        name: [value for value in dict.fromkeys(getattr(row, name) for row in rows) if value]
        for name in SOFTWARE
    }
    texts = [f"{name}: {' or '.join(used)}" for name, used in values.items() if len(used) > 1]
    return f"{MARK} Not made with the same as most lines ({'; '.join(texts)})." if texts else ""


def by_class(scores: Iterable[Score]) -> list[Wide]:
    """Return a table for each dataset and protocol: IoU of every class, a column for each method.

    The IoU is of the last scored stage of the method, mean over seeds.
    """
    tables: dict[tuple[str, str], dict[str, dict[str, list[Score]]]] = {}
    for score in scores:
        methods = tables.setdefault((score.run.dataset, score.run.protocol), {})
        methods.setdefault(score.title, {}).setdefault(score.what, []).append(score)
    wide = []
    for (dataset, protocol), methods in tables.items():
        last = {title: stages[max(stages, key=stage_order)] for title, stages in methods.items()}
        names = [c.name for c in next(iter(last.values()))[0].evaluation.classes]
        columns = [_ious(seeds, len(names)) for seeds in last.values()]
        lines = [(name, *cells) for name, *cells in zip(names, *columns, strict=True)]
        means = [spread([s.evaluation.miou for s in seeds]) for seeds in last.values()]
        scored = dict.fromkeys(stage_title(seeds[0].what) for seeds in last.values())
        several = any(len(seeds) > 1 for seeds in last.values())
        over = "means ± standard deviations over seeds" if several else "one seed"
        note = f"IoU in % of: {', '.join(scored)}; {over}."
        title, heads = f"{dataset}, {protocol}", ("class", *last)
        cells = (*lines, ("mean (mIoU)", *means))
        wide.append(Wide(dataset, title, (), heads, cells, note, kind="classes"))
    return wide


def _ious(seeds: Sequence[Score], classes: int) -> list[str]:
    """Return the IoU of each class over seeds in %, empty if it is undefined for all seeds."""
    cells = []
    for label in range(classes):
        values = [score.evaluation.classes[label].iou for score in seeds]
        defined = [value for value in values if value is not None]
        cells.append(spread(defined))
    return cells


def spread(values: Sequence[float]) -> str:
    """Return the mean of values in % and, of several, their standard deviation; empty without values."""
    if not values:
        return ""
    deviation = f" ± {percent(stdev(values))}" if len(values) > 1 else ""
    return f"{percent(fmean(values))}{deviation}"


def to_markdown(tables: Sequence[Wide]) -> str:
    """Return the tables with aligned columns, each under its title."""
    parts = []
    for table in tables:
        lines = grid(table.full_heads(), table.lines, table.numbers, table.lines_below)
        parts.append(
            "\n".join([f"### {markdown(table.title)}", "", *lines, "", markdown(table.note)])
        )
    return "\n\n".join(parts) + "\n" if parts else "No run yields masks.\n"


def to_latex(tables: Sequence[Wide]) -> str:
    """Return the tables as booktabs tables, ready to be pasted."""
    return "\n".join(
        latex.environment(
            table.heads,
            table.lines,
            table.numbers,
            f"{table.title}. {table.note}",
            f"wsss-{table.kind}-{table.title}",
            (("", 1), *table.groups) if table.groups else (),
            dict.fromkeys(table.lines_below, BELOW),
        )
        for table in tables
    )
