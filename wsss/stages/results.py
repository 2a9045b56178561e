"""Verify every record, then write tables, metrics, provenance, figures and panels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wsss import compare, figures, localized, plan, selection, show, showboxes, tables, wide
from wsss.data.index import load_index
from wsss.files import replacing, write_json, write_text
from wsss.guard import verify
from wsss.losses import loss_rows
from wsss.page import to_html
from wsss.plan import Run
from wsss.results import (
    Row,
    Score,
    class_rows,
    collect,
    compared,
    context_rows,
    curve_rows,
    metrics,
    provenance,
    rows,
)
from wsss.schema import Params
from wsss.selection import Localization, Selection

EVALUATION = ("dataset", "method", "protocol", "seed", "stage")
CLASS_HEADS = (*EVALUATION, "class", "iou", "precision", "recall")
CONTEXT_HEADS = (*EVALUATION, "class", "context", "object", "ratio")
PHENOMENON_HEADS = (*EVALUATION, "phenomenon", "of", "measure", "value")
CURVE_HEADS = (*EVALUATION, "threshold", "miou")
LOSS_HEADS = ("run", "network", "step", "loss")


def results(params: Params) -> str:
    """Write everything under results/ and return the table in Markdown."""
    runs = selection.runs(params, Selection())
    verify(*runs)
    scores = collect(runs)
    text = write_tables(scores, plan.RESULTS)
    text += write_localization(localized.collect(runs), plan.RESULTS)
    write_json(plan.RESULTS / "provenance.json", provenance(runs))
    write_losses(runs, plan.RESULTS)
    write_figures(scores, plan.RESULTS / "figures")
    for run in runs:
        write_panels(run, plan.RESULTS / "figures")
    return text


def chosen(params: Params, wanted: Selection, output: Path | None) -> str:
    """Return the table of a subset in Markdown; write it and what belongs to it if asked where."""
    runs = selection.runs(params, wanted)
    verify(*runs)
    scores = [score for score in collect(runs) if wanted.has_stage(score.what)]
    located = localized.collect(runs) if wanted.has_stage("localization") else []
    return _printed(scores, located, compared(rows(scores), scores), output)


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
    every += [(run, "localization") for run, _ in located]
    wanted.check((run.method, run.dataset, run.protocol, what) for run, what in every)
    scores = [s for s in scores if wanted.has(s.run) and wanted.has_stage(s.what)]
    located = [pair for pair in located if wanted.has(pair[0])]
    located = located if wanted.has_stage("localization") else []
    return _printed(scores, located, rows(scores), output)


def _printed(
    scores: Sequence[Score],
    located: Sequence[Localization],
    table: Sequence[Row],
    output: Path | None,
) -> str:
    """Return the tables as text, and write them with their figures to a folder if there is one."""
    if output is None:
        text = tables.to_markdown(table) if table or not located else ""
        return text + (f"\n{localized.to_markdown(localized.rows(located))}" if located else "")
    write_rows(table, output, scores)
    if scores:
        write_details(scores, output)
        write_figures(scores, output / "figures")
    return tables.to_markdown(table) + write_localization(located, output)


def write_tables(scores: Sequence[Score], folder: Path) -> str:
    """Write all tables of evaluations; return the long one in Markdown."""
    table = compared(rows(scores), scores)
    write_rows(table, folder, scores)
    write_details(scores, folder)
    return tables.to_markdown(table)


def write_rows(table: Sequence[Row], folder: Path, scores: Sequence[Score] = ()) -> None:
    """Write the long table, the summary and the page in their formats, and the metrics."""
    summaries, classes = wide.summaries(table), wide.by_class(scores)
    write_text(folder / "table.md", tables.to_markdown(table))
    write_text(folder / "table.csv", tables.to_csv(table))
    write_text(folder / "table.tex", tables.to_latex(table))
    write_text(folder / "summary.md", wide.to_markdown(summaries))
    write_text(folder / "summary.tex", wide.to_latex(summaries))
    write_text(folder / "table.html", to_html(table, summaries, classes))
    write_json(folder / "metrics.json", metrics(table))


def write_details(scores: Sequence[Score], folder: Path) -> None:
    """Write what evaluations say of classes, contexts, phenomena and thresholds."""
    classes = wide.by_class(scores)
    write_text(folder / "classes.md", wide.to_markdown(classes))
    write_text(folder / "classes.tex", wide.to_latex(classes))
    details = {
        "classes": (class_rows(scores), CLASS_HEADS),
        "context": (context_rows(scores), CONTEXT_HEADS),
        "phenomena": (compare.phenomenon_rows(scores), PHENOMENON_HEADS),
        "curves": (curve_rows(scores), CURVE_HEADS),
    }
    for name, (lines, heads) in details.items():
        write_text(folder / f"{name}.csv", tables.csv_text(lines, heads))


def write_localization(located: Sequence[Localization], folder: Path) -> str:
    """Write the table of the methods that localize, if there are such; return it after an empty line."""
    table = localized.rows(located)
    if not table:
        return ""
    text = localized.to_markdown(table)
    write_text(folder / "localization.md", text)
    write_text(folder / "localization.csv", tables.csv_text(table, localized.COLUMNS))
    return f"\n{text}"


def write_losses(runs: Sequence[Run], folder: Path) -> None:
    """Write the losses of all trainings, and their figure."""
    lines = loss_rows(runs)
    write_text(folder / "loss.csv", tables.csv_text(lines, LOSS_HEADS))
    titles = {str(run): (run.dataset, f"{run.spec.title}, {run.protocol}") for run in runs}
    figures.losses(lines, titles, folder / "figures" / "losses.svg")


def write_figures(scores: Sequence[Score], folder: Path) -> None:
    """Write all figures that need evaluations alone."""
    figures.curves(scores, folder / "curves.svg")
    figures.classes(scores, folder / "classes.svg")
    for name in compare.FIGURES:
        compare.phenomenon(name, scores, folder / f"{name}.svg")


def write_panels(run: Run, folder: Path) -> None:
    """Write the panels of a run; a method that learns from masks has no CAM to show."""
    index = load_index(run.index)
    kinds = {"": (show.training_panel, index.split("train"))}
    kinds["-val"] = (show.validation_panel, index.split("val"))
    if run.spec.localizes:
        kinds = {"-val": (showboxes.boxes_panel, index.of_one_class("val"))}
    elif run.spec.learns_masks:
        del kinds[""]
    for suffix, (draw, entries) in kinds.items():
        names = show.choose((entry.name for entry in entries), run.params.report.panels)
        panel = draw(run, index, names)
        stem = f"panels-{run.dataset}-{run.method}-{run.protocol}-s{run.seed}{suffix}"
        with replacing(folder / f"{stem}.png") as temporary:
            panel.save(temporary, "PNG")
