"""The results table as one HTML page that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wsss.report.tables.long import BELOW, CONVENTIONS, Column, Layout, layout
from wsss.report.tables.rows import STAGE_TITLES, Row
from wsss.report.tables.summary import Wide

# The colours of all pages, for light and for dark screens.
COLOURS = """\
:root { color-scheme: light dark; --ink: #1c2733; --soft: #5b6875; --line: #d9dfe5; --bar: #4d9bd0;
  --paper: #ffffff; --band: #f5f7f9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ee; --soft: #9aa7b4; --line: #36424e;
  --bar: #3f86b8; --paper: #151b21; --band: #1d252d; } }"""
WIDE_TABLES = """\
{% macro kind(table, loop) -%}
{% if table.numbers[loop.index0] %} class="number{{ " start" if loop.index0 in table.starts }}"{% endif %}
{%- endmacro %}
{% macro wide(tables) %}
{% for table in tables %}
{% if table.title != table.dataset %}<h3>By class: {{ table.title }}</h3>{% endif %}
<div class="scroll"><table class="wide">
<thead>
{% if table.groups %}<tr><th></th>{% for name, count in table.groups %}
<th class="group" colspan="{{ count }}">{{ name }}</th>{% endfor %}</tr>{% endif %}
<tr>{% for head in table.heads %}
<th{{ kind(table, loop) }}>{{ head }}</th>{% endfor %}
</tr></thead>
<tbody>
{% for line in table.lines %}
{% if loop.index0 == table.below %}
<tr class="below"><td colspan="{{ table.heads | length }}">{{ below }}</td></tr>{% endif %}
<tr>{% for cell in line %}
<td{{ kind(table, loop) }}>{{ cell }}</td>{% endfor %}
</tr>
{% endfor %}
</tbody>
</table></div>
<p>{{ table.note }}</p>
{% endfor %}
{% endmacro %}
{% macro rows_of(table) %}
<div class="scroll"><table>
<thead><tr>{% for column in table.columns %}
<th{% if column.is_number %} class="number"{% endif %}>{{ column.head }}</th>{% endfor %}
</tr></thead>
<tbody>
{% for line in table.lines %}
{% if line.is_below %}<tr class="below"><td colspan="{{ table.columns | length }}">{{ below }}</td></tr>
{% endif %}
<tr{% if line.is_first %} class="first"{% endif %}>
{% for cell in line.cells %}<td{% if cell.kind %} class="{{ cell.kind }}"{% endif %}
{%- if cell.bar is not none %} style="--to: {{ cell.bar }}%"{% endif %}
>{{ cell.text }}</td>{% endfor %}
</tr>
{% endfor %}
</tbody>
</table></div>
{% endmacro %}
"""
TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Results</title>
<style>
{{ colours }}
body { font: 14px/1.5 system-ui, "Helvetica Neue", Arial, sans-serif; color: var(--ink);
  background: var(--paper); max-width: 92rem; margin: 2.5rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .3rem; }
h3 { font-size: .95rem; margin: 1.6rem 0 .3rem; } table.wide { width: auto; }
.start { padding-left: 1.8rem; }
th.group { text-align: center; border-bottom: 1px solid var(--line); }
p, dl { color: var(--soft); margin: .2rem 0 .8rem; max-width: 60rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; font-size: .82rem; color: var(--soft);
  border-bottom: 2px solid var(--line); vertical-align: bottom; }
th, td { padding: .38rem .5rem; white-space: nowrap; }
td { border-bottom: 1px solid var(--line); }
td.wide { white-space: normal; min-width: 16rem; max-width: 34rem; overflow-wrap: anywhere; }
tr.below td { border-top: 2px solid var(--ink); border-bottom: 0; padding-top: .9rem;
  font-style: italic; color: var(--soft); }
tr.first td { border-top: 2px solid var(--line); }
tr:hover td { background-color: var(--band); }
.number { text-align: right; }
td.again { color: var(--soft); }
td.score { font-weight: 600;
  background: linear-gradient(var(--bar), var(--bar)) no-repeat left bottom / var(--to) 4px; }
dt { float: left; clear: left; width: 12.5rem; font-weight: 600; }
dd { margin: 0 0 .25rem 12.5rem; }
</style>
</head>
<body>
<h1>Results</h1>
<p>Mean intersection over union in percent; mean and standard deviation over seeds if there are
several. Every number stands beside the protocol it was measured under.</p>
{% for part in parts %}
<h2>{{ part.dataset }}</h2>
{{ wide(part.summaries) }}
<h3>Every number with its protocol</h3>
{% if part.shared %}
<dl>
{% for head, value in part.shared.items() %}<dt>{{ head }}</dt><dd>{{ value }}</dd>
{% endfor %}
</dl>
{% endif %}
{{ rows_of(part.numbers) }}
{% for mark in part.marks %}<p>{{ mark }}</p>{% endfor %}
{% for source in part.sources %}<p>Published: {{ source }}</p>{% endfor %}
{% if part.networks.columns | length > part.networks.named %}
<h3>The networks behind the numbers</h3>
{{ rows_of(part.networks) }}
{% endif %}
{{ wide(part.classes) }}
{% endfor %}
<h2>How to read this</h2>
<dl>
<dt>stage</dt><dd>{{ stages | join(", ") }}, in the order of the pipeline</dd>
<dt>oracle mIoU</dt><dd>the mIoU at the threshold that fits the true masks best: an oracle, not a
result. The mIoU before it is at the fixed threshold of the configuration</dd>
<dt>classes averaged</dt><dd>{% for letter, text in conventions.items() %}{{ letter }}: {{ text }}
{{- "; " if not loop.last }}{% endfor %}</dd>
<dt>labels at test</dt><dd>known: the stage was given the image-level labels of the scored images</dd>
<dt>labelled pixels</dt><dd>pixels with a predicted label; the others are 255 in the prediction</dd>
{% for head, note in notes.items() %}<dt>{{ head }}</dt><dd>{{ note }}</dd>
{% endfor %}
<dt>the line</dt><dd>rows below it have {{ below }}: masks, boxes, saliency maps, captions, or data
that nobody has named</dd>
</dl>
</body>
</html>
"""
WIDE = "networks, initial weights"
NAMES = ("method", "protocol", "stage")  # columns of both tables
REPEATED = ("method", "protocol")  # columns that are paler below the first row of a run


def to_html(
    rows: Sequence[Row], summaries: Sequence[Wide] = (), classes: Sequence[Wide] = ()
) -> str:
    """Return the page: for each dataset its summary, the long table, and its classes."""
    import jinja2  # noqa: PLC0415  # only this function needs it

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    datasets = dict.fromkeys(row.dataset for row in rows)
    parts = [
        {
            **_part(dataset, [row for row in rows if row.dataset == dataset]),
            "summaries": [table for table in summaries if table.dataset == dataset],
            "classes": [table for table in classes if table.dataset == dataset],
        }
        for dataset in datasets
    ]
    page = environment.from_string(WIDE_TABLES + TEMPLATE)
    titles = STAGE_TITLES.values()
    words = {"conventions": CONVENTIONS, "stages": titles, "below": BELOW}
    return page.render(parts=parts, colours=COLOURS, notes=layout(rows).notes(), **words) + "\n"


def _part(dataset: str, rows: Sequence[Row]) -> dict[str, object]:
    """Return what the page shows of a dataset, its columns in two tables of the same rows."""
    table = layout(rows)
    columns = [column for column in table.columns if column.head != "dataset"]
    names = [column for column in columns if column.head in NAMES]
    networks = [column for column in columns if column.is_of_networks]
    shared = {head: value for head, value in table.shared.items() if head != "dataset"}
    return {
        "dataset": dataset,
        "shared": shared,
        "numbers": _lines(table, [column for column in columns if not column.is_of_networks]),
        "networks": {**_joined(_lines(table, [*names, *networks])), "named": len(names)},
        "sources": table.sources,
        "marks": table.marks,
    }


def _lines(table: Layout, columns: Sequence[Column]) -> dict[str, Any]:
    """Return some columns of a table with the lines of their cells."""
    lines = []
    for number, row in enumerate(table.rows):
        is_below = number in table.lines_below
        is_first = number == 0 or is_below or _run(row) != _run(table.rows[number - 1])
        cells = [_cell(column, row, is_first) for column in columns]
        lines.append({"is_first": is_first, "is_below": is_below, "cells": cells})
    return {"columns": columns, "lines": lines}


def _joined(table: dict[str, Any]) -> dict[str, Any]:
    """Return a table in which a stage with the cells of the stage above it shares its line."""
    heads = [column.head for column in table["columns"]]
    stage = heads.index("stage")
    lines: list[dict[str, Any]] = []
    for line in table["lines"]:
        texts = [cell["text"] for cell in line["cells"]]
        if lines and not line["is_first"] and _others(lines[-1], stage) == _others(line, stage):
            lines[-1]["cells"][stage]["text"] += f", {texts[stage]}"
        else:
            lines.append(line)
    return {**table, "lines": lines}


def _others(line: dict[str, Any], stage: int) -> list[str]:
    """Return the texts of a line but for its stage."""
    return [cell["text"] for place, cell in enumerate(line["cells"]) if place != stage]


def _run(row: Row) -> tuple[str, str]:
    return row.method, row.protocol


def _cell(column: Column, row: Row, is_first: bool) -> dict[str, object]:
    is_score = column.head == "mIoU %"
    kinds = ["number"] * column.is_number + ["score"] * is_score + ["wide"] * (column.head == WIDE)
    kinds += ["again"] * (column.head in REPEATED and not is_first)
    return {
        "text": column.text(row),
        "kind": " ".join(kinds),
        "bar": round(100 * row.miou, 1) if is_score else None,
    }
