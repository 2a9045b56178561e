"""Compact tables: methods against stages, and classes against methods, mIoU and IoU in %.

The summary has one line for each method and a column for each stage under each protocol, with the
numbers of the papers if there are any. The rest of the protocol is in the long table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from wsss.report.tables import latex
from wsss.report.tables.long import grid, markdown, miou, percent
from wsss.report.tables.rows import Row, Score, stage_order, stage_title
from wsss.runs.run import stage_kind

Column = tuple[str, Callable[[Row], str]]  # the head, and the function from a row to its cell


@dataclass(frozen=True)
class Wide:
    """A table of a dataset: words in the first column and numbers in the others.

    groups: names above the heads of the numbers, each with the number of its columns.
    """

    dataset: str
    title: str
    groups: tuple[tuple[str, int], ...]
    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    note: str

    @property
    def numbers(self) -> list[bool]:
        """For each column, whether it holds numbers: all but the first do."""
        return [place > 0 for place in range(len(self.heads))]

    @property
    def starts(self) -> list[int]:
        """The columns that begin a group, counted from 0."""
        return [1 + sum(count for _, count in self.groups[:k]) for k in range(len(self.groups))]

    def full_heads(self) -> list[str]:
        """Return the heads, with the names of their groups if there are several groups."""
        if len(self.groups) < 2:
            return list(self.heads)
        names = [name for name, count in self.groups for _ in range(count)]
        full = [f"{name}: {head}" for name, head in zip(names, self.heads[1:], strict=True)]
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
    by_place = {(row.title, row.protocol, row.stage): row for row in rows}
    lines = []
    for title in dict.fromkeys(row.title for row in rows):
        line = [title]
        for place, stage_columns in columns.items():
            row = by_place.get((title, *place))
            line += [text(row) if row else "" for _, text in stage_columns]
        lines.append(tuple(line))
    widths: dict[str, int] = {}
    for (protocol, _), stage_columns in columns.items():
        widths[protocol] = widths.get(protocol, 0) + len(stage_columns)
    heads = ("method", *(head for stage_columns in columns.values() for head, _ in stage_columns))
    return Wide(dataset, dataset, tuple(widths.items()), heads, tuple(lines), _note(rows))


def _columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns of one stage: mIoU; paper and difference, if a row has a paper's number."""
    columns: list[Column] = [(stage_title(rows[0].stage), miou)]
    if any(row.published is not None for row in rows):
        columns.append(("paper", lambda row: percent(row.published)))
        columns.append(("difference", lambda row: percent(row.difference, "+")))
    return columns


def _note(rows: Sequence[Row]) -> str:
    """Return the note below a summary: what the numbers are, over which seeds and images."""
    spread = " ± standard deviation" if any(row.sd is not None for row in rows) else ""
    seeds = sorted({row.seeds for row in rows})
    over = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    splits: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: stage_order(row.stage)):
        labels = "known" if row.labels_used else "not known"
        images = f"{row.split}, {row.images} images, labels {labels}"
        splits.setdefault(images, []).append(stage_title(row.stage))
    stages = "; ".join(f"{', '.join(dict.fromkeys(s))}: {images}" for images, s in splits.items())
    papers = dict.fromkeys(f"{row.title}: {row.source}" for row in rows if row.source)
    notes = [f"mIoU in %, mean{spread} over {over} seed{'s' * (over != '1')}. {stages}."]
    return " ".join([*notes, *(f"Published by {paper}." for paper in papers)])


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
        means = [percent(fmean(s.evaluation.miou for s in seeds)) for seeds in last.values()]
        scored = dict.fromkeys(stage_title(seeds[0].what) for seeds in last.values())
        note = f"IoU in % of: {', '.join(scored)}; means over seeds."
        title, heads = f"{dataset}, {protocol}", ("class", *last)
        wide.append(Wide(dataset, title, (), heads, (*lines, ("mean (mIoU)", *means)), note))
    return wide


def _ious(seeds: Sequence[Score], classes: int) -> list[str]:
    """Return the mean IoU of each class over seeds in %, empty if it is undefined for all seeds."""
    cells = []
    for label in range(classes):
        values = [score.evaluation.classes[label].iou for score in seeds]
        defined = [value for value in values if value is not None]
        cells.append(percent(fmean(defined) if defined else None))
    return cells


def to_markdown(tables: Sequence[Wide]) -> str:
    """Return the tables with aligned columns, each under its title."""
    parts = []
    for table in tables:
        lines = grid(table.full_heads(), table.lines, table.numbers)
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
            (("", 1), *table.groups) if table.groups else (),
        )
        for table in tables
    )
