"""Verify every record, then write tables, metrics, provenance, figures and panels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wsss import compare, figures, localized, plan, show, showboxes, tables
from wsss.data.index import load_index
from wsss.errors import ConfigError
from wsss.files import replacing, write_json, write_text
from wsss.guard import verify
from wsss.losses import loss_rows
from wsss.page import to_html
from wsss.plan import Run
from wsss.results import (
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

EVALUATION = ("dataset", "method", "protocol", "seed", "stage")
CLASS_HEADS = (*EVALUATION, "class", "iou", "precision", "recall")
CONTEXT_HEADS = (*EVALUATION, "class", "context", "object", "ratio")
PHENOMENON_HEADS = (*EVALUATION, "phenomenon", "of", "measure", "value")
CURVE_HEADS = (*EVALUATION, "threshold", "miou")
LOSS_HEADS = ("run", "network", "step", "loss")


def results(params: Params) -> str:
    """Write everything under results/ and return the table in Markdown."""
    runs = list(plan.runs(params))
    if not runs:
        raise ConfigError("No run is selected: no method of `methods` has a published protocol.")
    verify(*runs)
    scores = collect(params)
    text = write_tables(scores, plan.RESULTS)
    text += write_localization(params, plan.RESULTS)
    write_json(plan.RESULTS / "provenance.json", provenance(runs))
    write_figures(runs, scores, plan.RESULTS)
    for run in runs:
        write_panels(run, plan.RESULTS / "figures")
    return text


def write_tables(scores: Sequence[Score], folder: Path) -> str:
    """Write the table in its formats, metrics and classes; return the Markdown."""
    table = compared(rows(scores), scores)
    text = tables.to_markdown(table)
    write_text(folder / "table.md", text)
    write_text(folder / "table.csv", tables.to_csv(table))
    write_text(folder / "table.tex", tables.to_latex(table))
    write_text(folder / "table.html", to_html(table))
    write_json(folder / "metrics.json", metrics(table))
    write_text(folder / "classes.csv", tables.csv_text(class_rows(scores), CLASS_HEADS))
    contexts = tables.csv_text(context_rows(scores), CONTEXT_HEADS)
    write_text(folder / "context.csv", contexts)
    phenomena = tables.csv_text(compare.phenomenon_rows(scores), PHENOMENON_HEADS)
    write_text(folder / "phenomena.csv", phenomena)
    write_text(folder / "curves.csv", tables.csv_text(curve_rows(scores), CURVE_HEADS))
    return text


def write_localization(params: Params, folder: Path) -> str:
    """Write the table of the methods that localize, if there are such; return it after an empty line."""
    table = localized.rows(localized.collect(params))
    if not table:
        return ""
    text = localized.to_markdown(table)
    write_text(folder / "localization.md", text)
    write_text(folder / "localization.csv", tables.csv_text(table, localized.COLUMNS))
    return f"\n{text}"


def write_figures(runs: Sequence[Run], scores: Sequence[Score], folder: Path) -> None:
    """Write the losses and all figures that need no image."""
    lines = loss_rows(runs)
    write_text(folder / "loss.csv", tables.csv_text(lines, LOSS_HEADS))
    titles = {str(run): (run.dataset, f"{run.spec.title}, {run.protocol}") for run in runs}
    figures.curves(scores, folder / "figures" / "curves.svg")
    figures.classes(scores, folder / "figures" / "classes.svg")
    for name in compare.FIGURES:
        compare.phenomenon(name, scores, folder / "figures" / f"{name}.svg")
    figures.losses(lines, titles, folder / "figures" / "losses.svg")


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
