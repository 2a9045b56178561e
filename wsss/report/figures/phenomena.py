"""The phenomena of all methods: the lines of a CSV, and one figure for each phenomenon."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from wsss.report.figures.charts import COLOURS, drawing, empty, short
from wsss.report.tables.rows import Line, Score, evaluation_columns, stage_order, stage_title
from wsss.runs.evaluation import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

GREY = "#8a949e"
Dot = tuple[str, float]  # the name of a measure, and its value in %


@dataclass(frozen=True)
class Phenomenon:
    """One figure: the measures of a phenomenon that are drawn, and their names.

    measures: from a measure, or with `by` from a line's name, to its name in the figure. by: the
    measure that is drawn for every line; without it a dot is the mean of a measure over the lines.
    """

    key: str
    axis: str
    measures: Mapping[str, str]
    by: str | None = None
    absent: str = "No dataset has marks of this phenomenon."

    def dots(self, evaluation: Evaluation) -> list[Dot]:
        """Return the dots of one evaluation; none for a measure that is undefined."""
        lines = [(line.name, line.measures()) for line in evaluation.phenomena.by_name()[self.key]]
        if self.by:
            named = [(self.measures[name], [values[self.by]]) for name, values in lines]
        else:
            named = [(name, [v[key] for _, v in lines]) for key, name in self.measures.items()]
        defined = [(name, [100 * v for v in values if v is not None]) for name, values in named]
        return [(name, fmean(values)) for name, values in defined if values]


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


def phenomenon_rows(scores: Iterable[Score]) -> list[Line]:
    """Return a line for each measure: phenomenon, class or size, measure, value."""
    return [
        {
            **evaluation_columns(score),
            "phenomenon": phenomenon_name,
            "of": measured.name,
            "measure": measure,
            "value": value,
        }
        for score in scores
        for phenomenon_name, lines in score.evaluation.phenomena.by_name().items()
        for measured in lines
        for measure, value in measured.measures().items()
    ]


def phenomenon(name: str, scores: Sequence[Score], path: Path) -> None:
    """Draw one phenomenon: a line of dots for each method, a panel for each stage, mean over seeds."""
    what = FIGURES[name]
    panels: dict[str, dict[str, dict[str, list[list[Dot]]]]] = {}  # row, stage, method
    for score in scores:
        if dots := what.dots(score.evaluation):
            stages = panels.setdefault(f"{score.run.dataset}, {score.run.protocol}", {})
            methods = stages.setdefault(stage_title(score.what), {})
            methods.setdefault(score.title, []).append(dots)
    if not panels:
        return empty(path, what.absent)
    stages_shown = {score.what for score in scores if what.dots(score.evaluation)}
    columns = [stage_title(stage) for stage in sorted(stages_shown, key=stage_order)]
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
    dots: Mapping[str, Sequence[Sequence[Dot]]],
    what: Phenomenon,
) -> None:
    """Draw the dots of every method that has the stage; a grey line connects a method's dots.

    dots: of every seed, by method.
    """
    styles = dict(zip(what.measures.values(), _styles(what), strict=True))
    for place, method in enumerate(names):
        values: dict[str, list[float]] = {}
        for name, value in (dot for seed in dots.get(method, ()) for dot in seed):
            values.setdefault(name, []).append(value)
        means = {name: fmean(seeds) for name, seeds in values.items()}
        if means:
            axes.plot([min(means.values()), max(means.values())], [place] * 2, color=GREY, lw=1)
        for name, mean in means.items():
            axes.add_line(styles[name].line([mean], [place]))
    axes.set_title("\n".join(map(short, title.split("\n"))))
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.set(xlabel=what.axis, xlim=(-3, 103), ylim=(len(names) - 0.5, -0.5))
    axes.grid(visible=False, axis="y")


@dataclass(frozen=True)
class DotStyle:
    """How the dot of a measure is drawn; size in points."""

    colour: str
    size: float
    fill: str

    def line(self, x: Sequence[float], y: Sequence[float]) -> Line2D:
        """Return dots at the places (x, y)."""
        from matplotlib.lines import Line2D  # noqa: PLC0415  # heavy, and only needed here

        return Line2D(
            x,
            y,
            marker="o",
            linestyle="none",
            color=self.colour,
            markersize=self.size,
            markerfacecolor=self.fill,
        )


def _styles(what: Phenomenon) -> list[DotStyle]:
    """Return the style of each measure: sizes grow; otherwise the first is full, the second hollow."""
    if what.by:
        return [DotStyle(COLOURS[0], 3 + 2 * k, COLOURS[0]) for k in range(len(what.measures))]
    return [DotStyle(COLOURS[1], 5, COLOURS[1]), DotStyle(COLOURS[0], 8, "none")]


def _legend(figure: Figure, what: Phenomenon) -> None:
    dots = [style.line([], []) for style in _styles(what)]
    figure.legend(dots, what.measures.values(), loc="outside lower center", ncols=len(dots))
