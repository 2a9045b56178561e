"""Figures of the report as SVG and PDF: threshold curves, IoU per class, losses.

Equal data gives equal bytes: there is no date, the salt of identifiers is fixed, and glyphs are
drawn as paths.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from wsss.report.figures.loss_curves import Loss
from wsss.report.tables.rows import Score, stage_title
from wsss.runs.evaluation import Evaluation
from wsss.storage.files import replacing

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import LineStyleType, RcKeyType
    from numpy.typing import NDArray

# Okabe and Ito's colours, which colour-blind readers can tell apart, without yellow, which is too pale
# for lines; then grey and brown.
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#000000",
    "#8C8C8C",
    "#8C5A2B",
)
DASHES: tuple[LineStyleType, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)))
STYLE: dict[RcKeyType, str | float | bool] = {
    "svg.hashsalt": "wsss",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # TrueType: journals refuse matplotlib's default, Type 3
    "text.parse_math": False,  # a class may be called $5
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.edgecolor": "#8a949e",
    "axes.labelcolor": "#3a444e",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6eaee",
    "grid.linewidth": 0.7,
    "xtick.color": "#5b6875",
    "ytick.color": "#5b6875",
    "text.color": "#1c2733",
    "lines.linewidth": 1.5,
    "legend.frameon": False,
}
NAME_LENGTH = 28  # characters of a name that are shown


class LineStyle(NamedTuple):
    """How the line of a series is drawn."""

    colour: str
    dashes: LineStyleType


Styles = dict[str, LineStyle]  # by the name of a series


def line_styles(series: Sequence[str]) -> Styles:
    """Give each series a colour, and other dashes once the colours are used up."""
    count = len(COLOURS)
    return {
        name: LineStyle(COLOURS[place % count], DASHES[place // count % len(DASHES)])
        for place, name in enumerate(dict.fromkeys(series))
    }


def short(name: str, length: int = NAME_LENGTH) -> str:
    """Return a name on one line, cut where it is too long to be shown."""
    single = " ".join(name.split())
    return single if len(single) <= length else single[: length - 1] + "…"


@contextmanager
def drawing(
    path: Path, rows: int, columns: int, size: tuple[float, float]
) -> Iterator[tuple[Figure, NDArray[np.object_]]]:
    """Yield (figure, axes (rows, columns)) that become an SVG and, beside it, a PDF.

    size: width, height of one cell, in inches.
    """
    import matplotlib as mpl  # noqa: PLC0415  # heavy, and only needed here
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()  # the user's matplotlibrc must not matter
        mpl.rcParams.update(STYLE)
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a rare script
        figure = Figure(figsize=(columns * size[0], rows * size[1]), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, figure.subplots(rows, columns, squeeze=False)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": "wsss"})
        with replacing(path.with_suffix(".pdf")) as temporary:
            undated = {"CreationDate": None, "Creator": "wsss"}
            figure.savefig(temporary, format="pdf", metadata=undated)


def _legend(figure: Figure, styles: Styles) -> None:
    """Name the series below the figure."""
    from matplotlib.lines import Line2D  # noqa: PLC0415  # as above

    lines = [Line2D([], [], color=colour, linestyle=dashes) for colour, dashes in styles.values()]
    names = [short(name, 2 * NAME_LENGTH) for name in styles]
    figure.legend(lines, names, loc="outside lower center", ncols=min(len(names), 4))


def _facets(keys: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Return the names of the rows and of the columns of a grid, in the order of `keys`."""
    rows, columns = (dict.fromkeys(names) for names in zip(*keys, strict=True))
    return list(rows), list(columns)


def _grid(
    path: Path,
    keys: Sequence[tuple[str, str]],
    styles: Styles,
    size: tuple[float, float],
    draw: Callable[[Axes, str, str], None],
) -> None:
    """Draw a grid of axes, one for each pair (row, column) of `keys`; other pairs stay empty."""
    rows, columns = _facets(keys)
    with drawing(path, len(rows), len(columns), size) as (figure, axes):
        for y, row in enumerate(rows):
            for x, column in enumerate(columns):
                if (row, column) in set(keys):
                    axes[y, x].set_title(f"{short(row)}\n{short(column)}")
                    draw(axes[y, x], row, column)
                else:
                    axes[y, x].axis("off")
        _legend(figure, styles)


def empty(path: Path, message: str) -> None:
    """Write a figure with a message that explains why there is no chart."""
    with drawing(path, 1, 1, (4.5, 1.2)) as (_, axes):
        axes[0, 0].axis("off")
        axes[0, 0].text(0.5, 0.5, message, ha="center", va="center")


def curves(scores: Sequence[Score], path: Path) -> None:
    """Draw mIoU against threshold, mean over seeds; a dot is the fixed threshold, a ring the best.

    The colour of a line is the method's, its dashes are the stage's.
    """
    grouped: dict[tuple[str, str], dict[tuple[str, str], list[Evaluation]]] = {}
    for score in (score for score in scores if score.evaluation.curve):
        facet = grouped.setdefault((score.run.dataset, score.run.protocol), {})
        series = (score.title, stage_title(score.what))
        facet.setdefault(series, []).append(score.evaluation)
    if not grouped:
        return empty(path, "No run has class maps, so there is no threshold curve.")
    drawn = list(dict.fromkeys(series for facet in grouped.values() for series in facet))
    methods = line_styles([title for title, _ in drawn])
    dashes = dict(zip(dict.fromkeys(stage for _, stage in drawn), DASHES, strict=False))
    styles = {
        f"{title}, {stage}": LineStyle(methods[title].colour, dashes[stage])
        for title, stage in drawn
    }

    def draw(axes: Axes, dataset: str, protocol: str) -> None:
        for series, seeds in grouped[dataset, protocol].items():
            _curve(axes, seeds, styles[", ".join(series)])
        axes.set(xlabel="background threshold", ylabel="mIoU %", xlim=(0, 1), ylim=(0, None))

    _grid(path, list(grouped), styles, (4.6, 3.4), draw)


def _curve(axes: Axes, seeds: Sequence[Evaluation], style: LineStyle) -> None:
    """Draw the mean of the seeds' curves, the range that they span, and two thresholds."""
    seed_curves = [evaluation.curve for evaluation in seeds if evaluation.curve]
    levels = seed_curves[0].thresholds
    percents = [[100 * value for value in curve.miou] for curve in seed_curves]
    at_levels = list(zip(*percents, strict=True))
    lowest, highest = list(map(min, at_levels)), list(map(max, at_levels))
    axes.fill_between(levels, lowest, highest, color=style.colour, alpha=0.15, linewidth=0)
    axes.plot(levels, list(map(fmean, at_levels)), color=style.colour, linestyle=style.dashes)
    if (threshold := seeds[0].protocol.threshold) is not None:
        fixed = fmean(100 * evaluation.miou for evaluation in seeds)
        axes.plot(threshold, fixed, "o", color=style.colour, markersize=4.5)
    best = [evaluation.best for evaluation in seeds if evaluation.best]
    axes.plot(
        fmean(score.threshold for score in best),
        100 * fmean(score.miou for score in best),
        "o",
        color=style.colour,
        zorder=3,
        markerfacecolor="white",
        markersize=6,
        markeredgewidth=1.4,
    )


def classes(scores: Sequence[Score], path: Path) -> None:
    """Draw the IoU of every class as bars, a panel for each dataset, protocol and stage."""
    grouped: dict[tuple[str, str], dict[str, list[Score]]] = {}
    for score in scores:
        key = (f"{score.run.dataset}, {score.run.protocol}", stage_title(score.what))
        grouped.setdefault(key, {}).setdefault(score.title, []).append(score)
    styles = line_styles([score.title for score in scores])
    if not scores:
        return empty(path, "No run yields masks, so there are no classes to compare.")
    names = max(len(score.evaluation.classes) for score in scores)
    height = 0.9 + names * (0.1 + 0.11 * len(styles))

    def draw(axes: Axes, row: str, stage: str) -> None:
        _bars(axes, grouped[row, stage], styles)

    _grid(path, list(grouped), styles, (2.9, height), draw)


def _bars(axes: Axes, series: Mapping[str, Sequence[Score]], styles: Styles) -> None:
    """Draw mean IoU over seeds by class, a bar for each series; a class without IoU has no bar."""
    names = [c.name for c in next(iter(series.values()))[0].evaluation.classes]
    width = 0.8 / len(series)
    for place, (title, seeds) in enumerate(series.items()):
        heights = [_mean_iou(seeds, label) for label in range(len(names))]
        places = [label - 0.4 + (place + 0.5) * width for label in range(len(names))]
        axes.barh(places, heights, width * 0.9, color=styles[title].colour)
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.set(xlabel="IoU %", xlim=(0, 100), ylim=(len(names) - 0.5, -0.5))
    axes.grid(visible=False, axis="y")


def _mean_iou(seeds: Sequence[Score], label: int) -> float:
    values = [score.evaluation.classes[label].iou for score in seeds]
    defined = [100 * value for value in values if value is not None]
    return fmean(defined) if defined else 0.0


def losses(points: Sequence[Loss], titles: Mapping[str, tuple[str, str]], path: Path) -> None:
    """Draw loss against step, a panel for each dataset and network.

    titles: from a run's name to its dataset and its series.
    """
    grouped: dict[tuple[str, str], dict[str, list[tuple[int, float]]]] = {}
    for point in points:
        runs = grouped.setdefault((titles[point.run][0], point.network), {})
        runs.setdefault(point.run, []).append((point.step, point.loss))
    if not grouped:
        return empty(path, "No network was trained, so there are no losses.")
    styles = line_styles([series for _, series in titles.values()])

    def draw(axes: Axes, dataset: str, network: str) -> None:
        for run, curve in grouped[dataset, network].items():
            colour, dashes = styles[titles[run][1]]
            steps, values = zip(*curve, strict=True)
            axes.plot(steps, values, color=colour, linestyle=dashes, linewidth=1.1, alpha=0.85)
        axes.set(xlabel="step", ylabel="loss", ylim=(0, None))

    _grid(path, list(grouped), styles, (3.4, 2.6), draw)
