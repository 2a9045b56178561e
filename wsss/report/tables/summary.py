"""Compact tables: methods against stages, and classes against methods, mIoU and IoU in %.

One line for each method, and side by side what it reaches at each stage under each protocol, with the
papers' numbers where there are some. The long table has the rest of what a number was measured under.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from wsss.report.tables import latex
from wsss.report.tables.long import grid, markdown, miou, percent
from wsss.report.tables.rows import Row, Score, stage_order, stage_title
from wsss.runs.run import stage_kind

Cell = tuple[str, Callable[[Row], str]]  # the head of a column, and the text of a row in it


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
        """Which columns are numbers: all but the first."""
        return [place > 0 for place in range(len(self.heads))]

    @property
    def starts(self) -> list[int]:
        """Return the columns that begin a group, counted from 0."""
        return [1 + sum(count for _, count in self.groups[:k]) for k in range(len(self.groups))]

    def full_heads(self) -> list[str]:
        """Return the heads with the names of their groups, where there are several."""
        if len(self.groups) < 2:
            return list(self.heads)
        names = [name for name, count in self.groups for _ in range(count)]
        own = [f"{name}: {head}" for name, head in zip(names, self.heads[1:], strict=True)]
        return [self.heads[0], *own]


def summaries(rows: Sequence[Row]) -> list[Wide]:
    """Return a table for each dataset: a line for each method, columns for protocols and stages.

    Seeds of networks before the last of a chain are left to the long table.
    """
    kept = [row for row in rows if row.stage == stage_kind(row.stage)]
    datasets = dict.fromkeys(row.dataset for row in kept)
    return [_summary(name, [row for row in kept if row.dataset == name]) for name in datasets]


def _summary(dataset: str, rows: Sequence[Row]) -> Wide:
    columns = {
        (protocol, stage): _cells([r for r in rows if (r.protocol, r.stage) == (protocol, stage)])
        for protocol in dict.fromkeys(row.protocol for row in rows)
        for stage in sorted({r.stage for r in rows if r.protocol == protocol}, key=stage_order)
    }
    found = {(row.title, row.protocol, row.stage): row for row in rows}
    lines = []
    for title in dict.fromkeys(row.title for row in rows):
        line = [title]
        for place, cells in columns.items():
            row = found.get((title, *place))
            line += [text(row) if row else "" for _, text in cells]
        lines.append(tuple(line))
    widths: dict[str, int] = {}
    for (protocol, _), cells in columns.items():
        widths[protocol] = widths.get(protocol, 0) + len(cells)
    heads = ("method", *(head for cells in columns.values() for head, _ in cells))
    return Wide(dataset, dataset, tuple(widths.items()), heads, tuple(lines), _note(rows))


def _cells(rows: Sequence[Row]) -> list[Cell]:
    """Return the columns of one stage: ours; and the paper's and the difference, if any has one."""
    cells: list[Cell] = [(stage_title(rows[0].stage), miou)]
    if any(row.published is not None for row in rows):
        cells.append(("paper", lambda row: percent(row.published)))
        cells.append(("difference", lambda row: percent(row.difference, "+")))
    return cells


def _note(rows: Sequence[Row]) -> str:
    """Return what the numbers are, and what of it is not the same everywhere."""
    spread = " ± standard deviation" if any(row.sd is not None for row in rows) else ""
    seeds = sorted({row.seeds for row in rows})
    over = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    splits: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: stage_order(row.stage)):
        known = "known" if row.labels_used else "not known"
        where = f"{row.split}, {row.images} images, labels {known}"
        splits.setdefault(where, []).append(stage_title(row.stage))
    said = "; ".join(f"{', '.join(dict.fromkeys(s))}: {where}" for where, s in splits.items())
    papers = dict.fromkeys(f"{row.title}: {row.source}" for row in rows if row.source)
    notes = [f"mIoU in %, mean{spread} over {over} seed{'s' * (over != '1')}. {said}."]
    return " ".join([*notes, *(f"Published by {paper}." for paper in papers)])


def by_class(scores: Iterable[Score]) -> list[Wide]:
    """Return a table for each dataset and protocol: IoU of every class, a column for each method.

    Of each method the last stage that was scored counts; means over seeds.
    """
    tables: dict[tuple[str, str], dict[str, dict[str, list[Score]]]] = {}
    for score in scores:
        methods = tables.setdefault((score.run.dataset, score.run.protocol), {})
        methods.setdefault(score.title, {}).setdefault(score.what, []).append(score)
    found = []
    for (dataset, protocol), methods in tables.items():
        last = {title: stages[max(stages, key=stage_order)] for title, stages in methods.items()}
        names = [each["name"] for each in next(iter(last.values()))[0].record["classes"]]
        columns = [_ious(seeds, len(names)) for seeds in last.values()]
        lines = [(name, *cells) for name, *cells in zip(names, *columns, strict=True)]
        means = [percent(fmean(float(s.record["miou"]) for s in seeds)) for seeds in last.values()]
        scored = dict.fromkeys(stage_title(seeds[0].what) for seeds in last.values())
        note = f"IoU in % of: {', '.join(scored)}; means over seeds."
        title, heads = f"{dataset}, {protocol}", ("class", *last)
        found.append(Wide(dataset, title, (), heads, (*lines, ("mean (mIoU)", *means)), note))
    return found


def _ious(seeds: Sequence[Score], classes: int) -> list[str]:
    """Return the mean IoU of each class over seeds; nothing where it is undefined in all."""
    found = []
    for label in range(classes):
        values = [score.record["classes"][label]["iou"] for score in seeds]
        known = [float(value) for value in values if value is not None]
        found.append(percent(fmean(known) if known else None))
    return found


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
