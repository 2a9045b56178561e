"""Figures of the report as SVG: threshold curves, IoU per class, losses.

Equal data gives equal bytes: no date, a fixed salt for identifiers, glyphs drawn as paths.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from wsss.report.tables.rows import Score, stage_title
from wsss.storage.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

# Okabe and Ito's colours, told apart by colour-blind readers, without yellow, which is too pale for
# lines; then grey and brown.
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
DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)))
STYLE: dict[RcKeyType, Any] = {
    "svg.hashsalt": "wsss",
    "svg.fonttype": "path",
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

Look = dict[str, tuple[str, Any]]  # series -> colour, dashes


def looks(series: Sequence[str]) -> Look:
    """Give each series its own colour, and other dashes once the colours are used up."""
    count = len(COLOURS)
    return {
        name: (COLOURS[place % count], DASHES[place // count % len(DASHES)])
        for place, name in enumerate(dict.fromkeys(series))
    }


def short(name: str, length: int = NAME_LENGTH) -> str:
    """Return a name on one line, cut where it is too long to be shown."""
    single = " ".join(name.split())
    return single if len(single) <= length else single[: length - 1] + "…"


@contextmanager
def drawing(path: Path, rows: int, columns: int, size: tuple[float, float]) -> Iterator[Any]:
    """Yield (figure, axes (rows, columns)) that become an SVG; size: of one cell, in inches."""
    import matplotlib as mpl  # noqa: PLC0415  # heavy, and of use here alone
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()  # whatever the user's matplotlibrc says
        mpl.rcParams.update(STYLE)
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a rare script
        figure = Figure(figsize=(columns * size[0], rows * size[1]), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, figure.subplots(rows, columns, squeeze=False)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": "wsss"})


def _legend(figure: Figure, look: Look) -> None:
    """Name the series below the figure."""
    from matplotlib.lines import Line2D  # noqa: PLC0415  # as above

    lines = [Line2D([], [], color=colour, linestyle=dashes) for colour, dashes in look.values()]
    names = [short(name, 2 * NAME_LENGTH) for name in look]
    figure.legend(lines, names, loc="outside lower center", ncols=min(len(names), 4))


def _facets(keys: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Return the names of the rows and of the columns of a grid, in the order they come."""
    rows, columns = (dict.fromkeys(names) for names in zip(*keys, strict=True))
    return list(rows), list(columns)


def _grid(
    path: Path,
    keys: Sequence[tuple[str, str]],
    look: Look,
    size: tuple[float, float],
    draw: Callable[[Axes, str, str], None],
) -> None:
    """Draw a grid of axes, one for each pair of `keys`; pairs that do not occur stay empty."""
    rows, columns = _facets(keys)
    with drawing(path, len(rows), len(columns), size) as (figure, axes):
        for y, row in enumerate(rows):
            for x, column in enumerate(columns):
                if (row, column) in set(keys):
                    axes[y, x].set_title(f"{short(row)}\n{short(column)}")
                    draw(axes[y, x], row, column)
                else:
                    axes[y, x].axis("off")
        _legend(figure, look)


def empty(path: Path, message: str) -> None:
    """Write a figure that says why there is nothing to see."""
    with drawing(path, 1, 1, (4.5, 1.2)) as (_, axes):
        axes[0, 0].axis("off")
        axes[0, 0].text(0.5, 0.5, message, ha="center", va="center")


def curves(scores: Sequence[Score], path: Path) -> None:
    """Draw mIoU against threshold, mean over seeds; a dot is the fixed threshold, a ring the best.

    Colours tell methods apart, dashes what is scored.
    """
    grouped: dict[tuple[str, str], dict[tuple[str, str], list[dict[str, Any]]]] = {}
    for score in (score for score in scores if score.record["curve"]):
        facet = grouped.setdefault((score.run.dataset, score.run.protocol), {})
        series = (score.title, stage_title(score.what))
        facet.setdefault(series, []).append(score.record)
    if not grouped:
        return empty(path, "No run has class maps, so there is no threshold curve.")
    drawn = list(dict.fromkeys(series for facet in grouped.values() for series in facet))
    colours = looks([title for title, _ in drawn])
    dashes = dict(zip(dict.fromkeys(stage for _, stage in drawn), DASHES, strict=False))
    look = {f"{title}, {stage}": (colours[title][0], dashes[stage]) for title, stage in drawn}

    def draw(axes: Axes, dataset: str, protocol: str) -> None:
        for series, records in grouped[dataset, protocol].items():
            _curve(axes, records, *look[", ".join(series)])
        axes.set(xlabel="background threshold", ylabel="mIoU %", xlim=(0, 1), ylim=(0, None))

    _grid(path, list(grouped), look, (4.6, 3.4), draw)


def _curve(axes: Axes, seeds: Sequence[Mapping[str, Any]], colour: str, dashes: Any) -> None:
    """Draw the mean of the seeds' curves, the range they span, and both thresholds."""
    levels = seeds[0]["curve"]["thresholds"]
    columns = list(
        zip(*([100 * each for each in record["curve"]["miou"]] for record in seeds), strict=True)
    )
    axes.fill_between(
        levels,
        list(map(min, columns)),
        list(map(max, columns)),
        color=colour,
        alpha=0.15,
        linewidth=0,
    )
    axes.plot(levels, list(map(fmean, columns)), color=colour, linestyle=dashes)
    fixed = fmean(100 * record["miou"] for record in seeds)
    axes.plot(seeds[0]["protocol"]["threshold"], fixed, "o", color=colour, markersize=4.5)
    best = [fmean(record["best"][key] for record in seeds) for key in ("threshold", "miou")]
    ring: dict[str, Any] = {"markerfacecolor": "white", "markersize": 6, "markeredgewidth": 1.4}
    axes.plot(best[0], 100 * best[1], "o", color=colour, zorder=3, **ring)


def classes(scores: Sequence[Score], path: Path) -> None:
    """Draw the IoU of every class as bars, a panel for each dataset, protocol and stage."""
    grouped: dict[tuple[str, str], dict[str, list[Score]]] = {}
    for score in scores:
        key = (f"{score.run.dataset}, {score.run.protocol}", stage_title(score.what))
        grouped.setdefault(key, {}).setdefault(score.title, []).append(score)
    look = looks([score.title for score in scores])
    if not scores:
        return empty(path, "No run yields masks, so there are no classes to compare.")
    names = max(len(score.record["classes"]) for score in scores)
    height = 0.9 + names * (0.1 + 0.11 * len(look))

    def draw(axes: Axes, row: str, stage: str) -> None:
        _bars(axes, grouped[row, stage], look)

    _grid(path, list(grouped), look, (2.9, height), draw)


def _bars(axes: Axes, series: Mapping[str, Sequence[Score]], look: Look) -> None:
    """Draw mean IoU over seeds by class, a bar for each series; a class without IoU has none."""
    names = [each["name"] for each in next(iter(series.values()))[0].record["classes"]]
    width = 0.8 / len(series)
    for place, (title, seeds) in enumerate(series.items()):
        heights = [_mean_iou(seeds, label) for label in range(len(names))]
        places = [label - 0.4 + (place + 0.5) * width for label in range(len(names))]
        axes.barh(places, heights, width * 0.9, color=look[title][0])
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.set(xlabel="IoU %", xlim=(0, 100), ylim=(len(names) - 0.5, -0.5))
    axes.grid(visible=False, axis="y")


def _mean_iou(seeds: Sequence[Score], label: int) -> float:
    values = [score.record["classes"][label]["iou"] for score in seeds]
    known = [100 * value for value in values if value is not None]
    return fmean(known) if known else 0.0


def losses(
    lines: Sequence[Mapping[str, Any]], titles: Mapping[str, tuple[str, str]], path: Path
) -> None:
    """Draw loss against step, a panel for each dataset and network.

    lines: run, network, step, loss. titles: from a run's name to its dataset and its series.
    """
    grouped: dict[tuple[str, str], dict[str, list[tuple[int, float]]]] = {}
    for line in lines:
        key = (titles[line["run"]][0], line["network"])
        points = grouped.setdefault(key, {}).setdefault(line["run"], [])
        points.append((line["step"], line["loss"]))
    if not grouped:
        return empty(path, "No network was trained, so there are no losses.")
    look = looks([series for _, series in titles.values()])

    def draw(axes: Axes, dataset: str, network: str) -> None:
        for run, points in grouped[dataset, network].items():
            colour, dashes = look[titles[run][1]]
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, color=colour, linestyle=dashes, linewidth=1.1, alpha=0.85)
        axes.set(xlabel="step", ylabel="loss", ylim=(0, None))

    _grid(path, list(grouped), look, (3.4, 2.6), draw)
