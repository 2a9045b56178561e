"""Verify every record, then write tables, metrics, provenance, figures and panels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wsss.data.index import load_index
from wsss.report.figures import box_panels, charts, panels, phenomena
from wsss.report.figures.loss_curves import HEADS as LOSS_HEADS
from wsss.report.figures.loss_curves import loss_rows
from wsss.report.gallery.side_by_side import panel
from wsss.report.tables import localization, long, selection, summary
from wsss.report.tables.html import to_html
from wsss.report.tables.localization import BoxScore
from wsss.report.tables.rows import (
    Row,
    Score,
    class_rows,
    collect,
    compared,
    context_rows,
    curve_rows,
    metrics,
    provenance,
    table_rows,
)
from wsss.report.tables.selection import Selection
from wsss.runs.run import Run
from wsss.runs.staleness import verify
from wsss.settings import Params
from wsss.storage.files import replacing, write_json, write_text

EVALUATION = ("dataset", "method", "protocol", "seed", "stage")
CLASS_HEADS = (*EVALUATION, "class", "iou", "precision", "recall")
CONTEXT_HEADS = (*EVALUATION, "class", "context", "object", "ratio")
PHENOMENON_HEADS = (*EVALUATION, "phenomenon", "of", "measure", "value")
CURVE_HEADS = (*EVALUATION, "threshold", "miou")


def write_results(params: Params) -> str:
    """Write everything in the folder of results and return the table in Markdown."""
    runs, folder = selection.runs(params, Selection()), Path(params.results)
    verify(*runs)
    scores = collect(runs)
    text = write_tables(scores, folder)
    text += write_localization(localization.collect(runs), folder)
    write_json(folder / "provenance.json", provenance(runs, table_rows(scores)))
    write_losses(runs, folder)
    write_figures(scores, folder / "figures")
    for run in runs:
        write_panels(run, folder / "figures")
    return text


def chosen(params: Params, subset: Selection, output: Path | None) -> str:
    """Return the table of a subset in Markdown; write it to `output`, if not None.

    Its figures and the provenance of all its runs are written with it.
    """
    runs = selection.runs(params, subset)
    verify(*runs)
    scores = [score for score in collect(runs) if subset.has_stage(score.what)]
    box_scores = localization.collect(runs) if subset.has_stage("boxes") else []
    if output is not None:
        write_json(output / "provenance.json", provenance(runs, table_rows(scores)))
    return _printed(scores, box_scores, compared(table_rows(scores), scores), output)


def gathered(sources: Sequence[Path], subset: Selection, output: Path | None) -> str:
    """Return the table of evaluation files or of a `table.csv` in Markdown; write it as `chosen`.

    Only `sources` are read, no parameters. Gains over the baseline need the scores of every image,
    so only a `table.csv` has them.
    """
    if any(source.suffix == ".csv" for source in sources):
        rows = [row for source in sources for row in selection.read_table(source)]
        subset.check((row.method, row.dataset, row.protocol, row.stage) for row in rows)
        rows = [row for row in rows if subset.has(row) and subset.has_stage(row.stage)]
        return _printed([], [], rows, output)
    scores, box_scores = selection.evaluations(sources)
    stages = [(score.run, score.what) for score in scores]
    stages += [(score.run, "boxes") for score in box_scores]
    subset.check((run.method, run.dataset, run.protocol, what) for run, what in stages)
    scores = [s for s in scores if subset.has(s.run) and subset.has_stage(s.what)]
    box_scores = [s for s in box_scores if subset.has(s.run) and subset.has_stage("boxes")]
    return _printed(scores, box_scores, table_rows(scores), output)


def _printed(
    scores: Sequence[Score],
    box_scores: Sequence[BoxScore],
    table: Sequence[Row],
    output: Path | None,
) -> str:
    """Return the tables as text, and write them with their figures to `output`, if not None."""
    if output is None:
        text = long.to_markdown(table) if table or not box_scores else ""
        boxes = localization.to_markdown(localization.table_rows(box_scores))
        return text + (f"\n{boxes}" if box_scores else "")
    write_rows(table, output, scores)
    if scores:
        write_details(scores, output)
        write_figures(scores, output / "figures")
    return long.to_markdown(table) + write_localization(box_scores, output)


def write_tables(scores: Sequence[Score], folder: Path) -> str:
    """Write all tables of evaluations; return the long one in Markdown."""
    table = compared(table_rows(scores), scores)
    write_rows(table, folder, scores)
    write_details(scores, folder)
    return long.to_markdown(table)


def write_rows(table: Sequence[Row], folder: Path, scores: Sequence[Score] = ()) -> None:
    """Write the long table and the summary in every format, the page, and the metrics."""
    summaries, classes = summary.summaries(table), summary.by_class(scores)
    write_text(folder / "table.md", long.to_markdown(table))
    write_text(folder / "table.csv", long.to_csv(table))
    write_text(folder / "table.tex", long.to_latex(table))
    write_text(folder / "summary.md", summary.to_markdown(summaries))
    write_text(folder / "summary.tex", summary.to_latex(summaries))
    write_text(folder / "table.html", to_html(table, summaries, classes))
    write_json(folder / "metrics.json", metrics(table))


def write_details(scores: Sequence[Score], folder: Path) -> None:
    """Write the tables of classes, contexts, phenomena and threshold curves."""
    classes = summary.by_class(scores)
    write_text(folder / "classes.md", summary.to_markdown(classes))
    write_text(folder / "classes.tex", summary.to_latex(classes))
    details = {
        "classes": (class_rows(scores), CLASS_HEADS),
        "context": (context_rows(scores), CONTEXT_HEADS),
        "phenomena": (phenomena.phenomenon_rows(scores), PHENOMENON_HEADS),
        "curves": (curve_rows(scores), CURVE_HEADS),
    }
    for name, (lines, heads) in details.items():
        write_text(folder / f"{name}.csv", long.csv_text(lines, heads))


def write_localization(scores: Sequence[BoxScore], folder: Path) -> str:
    """Write the table of localization and return it after an empty line; nothing without scores."""
    table = localization.table_rows(scores)
    if not table:
        return ""
    text = localization.to_markdown(table)
    write_text(folder / "localization.md", text)
    lines = [row.cells() for row in table]
    write_text(folder / "localization.csv", long.csv_text(lines, localization.COLUMNS))
    return f"\n{text}"


def write_losses(runs: Sequence[Run], folder: Path) -> None:
    """Write the losses of all trainings, and their figure."""
    losses = loss_rows(runs)
    lines = [loss._asdict() for loss in losses]
    write_text(folder / "loss.csv", long.csv_text(lines, LOSS_HEADS))
    titles = {str(run): (run.dataset, f"{run.title}, {run.protocol}") for run in runs}
    charts.losses(losses, titles, folder / "figures" / "losses.svg")


def write_figures(scores: Sequence[Score], folder: Path) -> None:
    """Write every figure that is drawn from evaluations."""
    charts.curves(scores, folder / "curves.svg")
    charts.classes(scores, folder / "classes.svg")
    for name in phenomena.FIGURES:
        phenomena.phenomenon(name, scores, folder / f"{name}.svg")


def write_panels(run: Run, folder: Path) -> None:
    """Write the panels of a run; without CAMs there is no panel of training images."""
    index, count = load_index(run.index), run.params.report.panels
    if run.spec.localizes:
        names = panels.choose((entry.name for entry in index.of_one_class("val")), count)
        pictures = {"-val": box_panels.boxes_panel(run, index, names)}
    else:
        pictures = {"-val": panel(run, index, ("segmentation",), count)}
        if "cam" in run.stages():
            pictures[""] = panel(run, index, ("cam", "seed", "pseudo"), count)
    for suffix, picture in pictures.items():
        stem = f"panels-{run.dataset}-{run.method}-{run.protocol}-s{run.seed}{suffix}"
        with replacing(folder / f"{stem}.png") as temporary:
            picture.save(temporary, "PNG")
