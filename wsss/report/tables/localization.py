"""Localization in a table of its own: how many objects are found, and how the other answers fail.

Plain data in, text out; shares are in [0, 1].
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from wsss.errors import MissingError, StaleError
from wsss.report.tables import published
from wsss.report.tables.long import grid, percent
from wsss.report.tables.rows import DIGITS
from wsss.runs.run import Run
from wsss.scores.boxes import OUTCOMES
from wsss.settings import Params
from wsss.storage.files import read_json

SHARES = ("top1", "top5", "gt_known", "top1_class", "top5_class")
HEADS = {
    "top1": "Top-1 %",
    "top5": "Top-5 %",
    "gt_known": "GT-known %",
    "top1_class": "class Top-1 %",
    "top5_class": "class Top-5 %",
}
FAILURES = {
    "class": "other class",
    "multi_instance": "several objects",
    "part": "part",
    "more": "too much",
    "wrong": "elsewhere",
}
COMPARED = SHARES[:3]  # of which papers give numbers
RUN = ("dataset", "method", "title", "protocol", "seeds", "split", "images", "threshold")
COLUMNS = (
    *RUN,
    *(name for share in SHARES for name in (share, f"{share}_sd")),
    *OUTCOMES,
    *(f"{share}_published" for share in COMPARED),
    "source",
    "networks",
)
NOTE = (
    "Share of the validation images with one class. Top-1, Top-5: the class is among the best and "
    "its box overlaps a true one by more than half (IoU); GT-known: the box of the true class does. "
    "The failures are of the best class, the first that applies."
)


def collect(runs: Iterable[Run]) -> list[tuple[Run, dict[str, Any]]]:
    """Return those of the runs that localize, each with its evaluation."""
    found = []
    for run in (run for run in runs if run.spec.localizes):
        path = run.path("eval/boxes.json")
        of, record = read(path, run.params)
        if str(of) != str(run):
            raise StaleError(f"{path} is of {of}. Delete it and run again.")
        found.append((run, record))
    return found


def read(path: Path, params: Params) -> tuple[Run, dict[str, Any]]:
    """Return the evaluation in a file with its run; refuse one that lacks something."""
    record = read_json(path)
    absent = [
        key for key in ("run", "protocol", "outcomes", *SHARES, "described") if key not in record
    ]
    if absent:
        raise MissingError(f"{path} does not say {absent[0]!r}. Delete it and run again.")
    return Run.named(record["run"], params), record


def table_rows(found: Iterable[tuple[Run, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return one row per dataset, method and protocol: means over seeds."""
    grouped: dict[tuple[str, ...], list[tuple[Run, dict[str, Any]]]] = {}
    for run, record in found:
        grouped.setdefault((run.dataset, run.method, run.protocol), []).append((run, record))
    return [_row(group) for group in grouped.values()]


def _row(group: Sequence[tuple[Run, dict[str, Any]]]) -> dict[str, Any]:
    run, first = group[0]
    row: dict[str, Any] = {
        "dataset": run.dataset,
        "method": run.method,
        "title": first["described"]["title"],
        "protocol": run.protocol,
        "seeds": len(group),
        **first["protocol"],
        "networks": first["described"]["networks"],
    }
    for share in SHARES:
        values = [float(record[share]) for _, record in group]
        row[share] = round(statistics.fmean(values), DIGITS)
        spread = round(statistics.stdev(values), DIGITS) if len(values) > 1 else None
        row[f"{share}_sd"] = spread
    for outcome in OUTCOMES:
        parts = [record["outcomes"][outcome] / first["protocol"]["images"] for _, record in group]
        row[outcome] = round(statistics.fmean(parts), DIGITS)
    reference = published.find_localization(run.method, run.dataset)
    known = reference if run.protocol == "published" else None
    for share in COMPARED:
        number = getattr(known[0], share) if known else None
        row[f"{share}_published"] = None if number is None else round(number / 100, DIGITS)
    row["source"] = f"{known[1].paper}; {known[1].source}" if known else ""
    return row


def to_markdown(table: Sequence[dict[str, Any]]) -> str:
    """Return the table with what the papers report and how the answers fail."""
    with_papers = any(row["source"] for row in table)
    heads = ["dataset", "method", "protocol", *HEADS.values()]
    if with_papers:
        heads += [f"{HEADS[share]} published" for share in COMPARED]
    heads += [f"{head} %" for head in FAILURES.values()] + ["images", "seeds", "networks"]
    lines = [_line(row, with_papers) for row in table]
    numbers = ["%" in head or head in ("images", "seeds") for head in heads]
    sources = dict.fromkeys(f"{r['title']}: {r['source']}" for r in table if r["source"])
    return "\n".join([*grid(heads, lines, numbers), "", NOTE, *sources]) + "\n"


def _line(row: dict[str, Any], with_papers: bool) -> list[str]:
    shares = []
    for share in SHARES:
        spread = row[f"{share}_sd"]
        shares.append(percent(row[share]) + ("" if spread is None else f" ± {percent(spread)}"))
    papers = [percent(row[f"{share}_published"]) for share in COMPARED] if with_papers else []
    failures = [percent(row[outcome]) for outcome in FAILURES]
    last = [str(row["images"]), str(row["seeds"]), row["networks"]]
    return [row["dataset"], row["title"], row["protocol"], *shares, *papers, *failures, *last]
