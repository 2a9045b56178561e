"""The phenomena of all methods side by side: lines of a CSV, and one figure for each phenomenon."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from wsss.report.figures.charts import COLOURS, drawing, empty, short
from wsss.report.tables.rows import Score, seeded, stage_order, stage_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREY = "#8a949e"
Dot = tuple[str, float]  # what is measured, in %


@dataclass(frozen=True)
class Phenomenon:
    """One figure: which measures of a record's phenomena are drawn, and how they are called.

    measures: from the key of a measure to its name in the figure. by: the measure that is drawn for
    each entry on its own; otherwise a dot is the mean of a measure over the entries.
    """

    key: str
    axis: str
    measures: Mapping[str, str]
    by: str | None = None
    absent: str = "No dataset has marks of it."

    def dots(self, record: Mapping[str, Any]) -> list[Dot]:
        """Return what one evaluation shows of it; nothing where it was not measured."""
        entries = record.get("phenomena", {}).get(self.key, ())
        if self.by:
            named = [(self.measures[each["name"]], [each[self.by]]) for each in entries]
        else:
            named = [(name, [each[key] for each in entries]) for key, name in self.measures.items()]
        known = [(name, [100 * v for v in values if v is not None]) for name, values in named]
        return [(name, fmean(values)) for name, values in known if values]


FIGURES = {
    "parts": Phenomenon(
        "parts",
        "% of the pixels with the right class",
        {"rest": "rest of the object", "part": "telling part"},
    ),
    "contexts": Phenomenon(
        "contexts",
        "% of the pixels with the class",
        {"context": "its constant context", "object": "the object"},
    ),
    "sizes": Phenomenon(
        "sizes",
        "mean IoU of objects, %",
        {name: f"{name} objects" for name in ("small", "medium", "large")},
        by="iou",
        absent="No evaluation has measured objects by size.",
    ),
}


def phenomenon_rows(scores: Iterable[Score]) -> list[dict[str, Any]]:
    """Return a line for each measure: phenomenon, of which class or size, measure, value."""
    return [
        {
            **seeded(score),
            "phenomenon": kind,
            "of": each["name"],
            "measure": measure,
            "value": value,
        }
        for score in scores
        for kind, entries in score.record.get("phenomena", {}).items()
        for each in entries
        for measure, value in each.items()
        if measure != "name"
    ]


def phenomenon(name: str, scores: Sequence[Score], path: Path) -> None:
    """Draw one phenomenon: a line of dots for each method, a panel for each stage, mean over seeds."""
    what = FIGURES[name]
    panels: dict[str, dict[str, dict[str, list[list[Dot]]]]] = {}  # row, stage, method
    for score in scores:
        if dots := what.dots(score.record):
            stages = panels.setdefault(f"{score.run.dataset}, {score.run.protocol}", {})
            methods = stages.setdefault(stage_title(score.what), {})
            methods.setdefault(score.title, []).append(dots)
    if not panels:
        return empty(path, what.absent)
    shown = {score.what for score in scores if what.dots(score.record)}
    columns = [stage_title(each) for each in sorted(shown, key=stage_order)]
    names = {row: _methods(stages) for row, stages in panels.items()}
    size = (2.9, 0.9 + 0.21 * max(3, *map(len, names.values())))
    with drawing(path, len(panels), len(columns), size) as (figure, axes):
        for y, (row, stages) in enumerate(panels.items()):
            for x, stage in enumerate(columns):
                _panel(axes[y, x], f"{row}\n{stage}", names[row], stages.get(stage, {}), what)
                axes[y, x].tick_params(labelleft=x == 0)
        _legend(figure, what)


def _methods(stages: Mapping[str, Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(method for stage in stages.values() for method in stage))


def _panel(
    axes: Axes,
    title: str,
    names: Sequence[str],
    found: Mapping[str, Sequence[Sequence[Dot]]],
    what: Phenomenon,
) -> None:
    """Draw the dots of every method that has the stage; a grey line joins those of one method."""
    styles = dict(zip(what.measures.values(), _styles(what), strict=True))
    for place, method in enumerate(names):
        values: dict[str, list[float]] = {}
        for name, value in (dot for seed in found.get(method, ()) for dot in seed):
            values.setdefault(name, []).append(value)
        means = {name: fmean(seeds) for name, seeds in values.items()}
        if means:
            axes.plot([min(means.values()), max(means.values())], [place] * 2, color=GREY, lw=1)
        for name, mean in means.items():
            axes.plot(mean, place, **styles[name])
    axes.set_title("\n".join(map(short, title.split("\n"))))
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.set(xlabel=what.axis, xlim=(-3, 103), ylim=(len(names) - 0.5, -0.5))
    axes.grid(visible=False, axis="y")


def _styles(what: Phenomenon) -> list[dict[str, Any]]:
    """Return the look of each measure: sizes grow, otherwise the first is full, the second hollow."""
    base = {"marker": "o", "linestyle": "none"}
    if what.by:
        return [
            {**base, "color": COLOURS[0], "markersize": 3 + 2 * k}
            for k in range(len(what.measures))
        ]
    hollow = {"color": COLOURS[0], "markerfacecolor": "none", "markersize": 8}
    return [{**base, "color": COLOURS[1], "markersize": 5}, {**base, **hollow}]


def _legend(figure: Any, what: Phenomenon) -> None:
    from matplotlib.lines import Line2D  # noqa: PLC0415  # heavy, and of use here alone

    dots = [Line2D([], [], **style) for style in _styles(what)]
    figure.legend(dots, what.measures.values(), loc="outside lower center", ncols=len(dots))
