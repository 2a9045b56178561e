"""Verify every record, then write tables, metrics, provenance, figures and panels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wsss.data.index import load_index
from wsss.report.figures import box_panels, charts, panels, phenomena
from wsss.report.figures.loss_curves import loss_rows
from wsss.report.tables import localization, long, selection, summary
from wsss.report.tables.html import to_html
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
from wsss.report.tables.selection import Localization, Selection
from wsss.runs.run import RESULTS, Run
from wsss.runs.staleness import verify
from wsss.settings import Params
from wsss.storage.files import replacing, write_json, write_text

EVALUATION = ("dataset", "method", "protocol", "seed", "stage")
CLASS_HEADS = (*EVALUATION, "class", "iou", "precision", "recall")
CONTEXT_HEADS = (*EVALUATION, "class", "context", "object", "ratio")
PHENOMENON_HEADS = (*EVALUATION, "phenomenon", "of", "measure", "value")
CURVE_HEADS = (*EVALUATION, "threshold", "miou")
LOSS_HEADS = ("run", "network", "step", "loss")


def write_results(params: Params) -> str:
    """Write everything under results/ and return the table in Markdown."""
    runs = selection.runs(params, Selection())
    verify(*runs)
    scores = collect(runs)
    text = write_tables(scores, RESULTS)
    text += write_localization(localization.collect(runs), RESULTS)
    write_json(RESULTS / "provenance.json", provenance(runs))
    write_losses(runs, RESULTS)
    write_figures(scores, RESULTS / "figures")
    for run in runs:
        write_panels(run, RESULTS / "figures")
    return text


def chosen(params: Params, wanted: Selection, output: Path | None) -> str:
    """Return the table of a subset in Markdown; write it and what belongs to it if asked where."""
    runs = selection.runs(params, wanted)
    verify(*runs)
    scores = [score for score in collect(runs) if wanted.has_stage(score.what)]
    located = localization.collect(runs) if wanted.has_stage("boxes") else []
    return _printed(scores, located, compared(table_rows(scores), scores), output)


def gathered(sources: Sequence[Path], wanted: Selection, output: Path | None) -> str:
    """Return the table of evaluation files in Markdown, or of a `table.csv`; as `chosen`.

    Nothing else is read, no parameters either. Gains over the baseline need every image, so a
    `table.csv` alone has them.
    """
    if any(source.suffix == ".csv" for source in sources):
        read = [row for source in sources for row in selection.read_table(source)]
        wanted.check((row.method, row.dataset, row.protocol, row.stage) for row in read)
        kept = [row for row in read if wanted.has(row) and wanted.has_stage(row.stage)]
        return _printed([], [], kept, output)
    scores, located = selection.evaluations(sources)
    every = [(score.run, score.what) for score in scores]
    every += [(run, "boxes") for run, _ in located]
    wanted.check((run.method, run.dataset, run.protocol, what) for run, what in every)
    scores = [s for s in scores if wanted.has(s.run) and wanted.has_stage(s.what)]
    located = [pair for pair in located if wanted.has(pair[0])]
    located = located if wanted.has_stage("boxes") else []
    return _printed(scores, located, table_rows(scores), output)


def _printed(
    scores: Sequence[Score],
    located: Sequence[Localization],
    table: Sequence[Row],
    output: Path | None,
) -> str:
    """Return the tables as text, and write them with their figures to a folder if there is one."""
    if output is None:
        text = long.to_markdown(table) if table or not located else ""
        return text + (
            f"\n{localization.to_markdown(localization.table_rows(located))}" if located else ""
        )
    write_rows(table, output, scores)
    if scores:
        write_details(scores, output)
        write_figures(scores, output / "figures")
    return long.to_markdown(table) + write_localization(located, output)


def write_tables(scores: Sequence[Score], folder: Path) -> str:
    """Write all tables of evaluations; return the long one in Markdown."""
    table = compared(table_rows(scores), scores)
    write_rows(table, folder, scores)
    write_details(scores, folder)
    return long.to_markdown(table)


def write_rows(table: Sequence[Row], folder: Path, scores: Sequence[Score] = ()) -> None:
    """Write the long table, the summary and the page in their formats, and the metrics."""
    summaries, classes = summary.summaries(table), summary.by_class(scores)
    write_text(folder / "table.md", long.to_markdown(table))
    write_text(folder / "table.csv", long.to_csv(table))
    write_text(folder / "table.tex", long.to_latex(table))
    write_text(folder / "summary.md", summary.to_markdown(summaries))
    write_text(folder / "summary.tex", summary.to_latex(summaries))
    write_text(folder / "table.html", to_html(table, summaries, classes))
    write_json(folder / "metrics.json", metrics(table))


def write_details(scores: Sequence[Score], folder: Path) -> None:
    """Write what evaluations say of classes, contexts, phenomena and thresholds."""
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


def write_localization(located: Sequence[Localization], folder: Path) -> str:
    """Write the table of the methods that localize, if there are such; return it after an empty line."""
    table = localization.table_rows(located)
    if not table:
        return ""
    text = localization.to_markdown(table)
    write_text(folder / "localization.md", text)
    write_text(folder / "localization.csv", long.csv_text(table, localization.COLUMNS))
    return f"\n{text}"


def write_losses(runs: Sequence[Run], folder: Path) -> None:
    """Write the losses of all trainings, and their figure."""
    lines = loss_rows(runs)
    write_text(folder / "loss.csv", long.csv_text(lines, LOSS_HEADS))
    titles = {str(run): (run.dataset, f"{run.spec.title}, {run.protocol}") for run in runs}
    charts.losses(lines, titles, folder / "figures" / "losses.svg")


def write_figures(scores: Sequence[Score], folder: Path) -> None:
    """Write all figures that need evaluations alone."""
    charts.curves(scores, folder / "curves.svg")
    charts.classes(scores, folder / "classes.svg")
    for name in phenomena.FIGURES:
        phenomena.phenomenon(name, scores, folder / f"{name}.svg")


def write_panels(run: Run, folder: Path) -> None:
    """Write the panels of a run; a method that learns from masks has no CAM to show."""
    index = load_index(run.index)
    kinds = {"": (panels.training_panel, index.split("train"))}
    kinds["-val"] = (panels.validation_panel, index.split("val"))
    if run.spec.localizes:
        kinds = {"-val": (box_panels.boxes_panel, index.of_one_class("val"))}
    elif run.spec.learns_masks:
        del kinds[""]
    for suffix, (draw, entries) in kinds.items():
        names = panels.choose((entry.name for entry in entries), run.params.report.panels)
        panel = draw(run, index, names)
        stem = f"panels-{run.dataset}-{run.method}-{run.protocol}-s{run.seed}{suffix}"
        with replacing(folder / f"{stem}.png") as temporary:
            panel.save(temporary, "PNG")
