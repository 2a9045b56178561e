"""The page of a gallery: its data, script and style in one file that may load pictures alone."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from wsss.data import labelmap
from wsss.data.index import Index
from wsss.report.figures.charts import COLOURS as SERIES
from wsss.report.figures.panels import CELL, OPEN, STRENGTH
from wsss.report.gallery.material import STAGES, Material
from wsss.report.gallery.pictures import heat_colours
from wsss.report.tables.html import COLOURS
from wsss.report.tables.rows import stage_title
from wsss.scores.mistakes import KINDS

PURE_BLACK = "#000000"  # would not be seen in the dark


def run(material: Material, mistakes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the page says of a run. mistakes: lines of the table, by column."""
    return {
        "name": str(material.run),
        "title": material.title,
        "columns": material.columns,
        "notes": material.notes,
        "mistakes": mistakes,
        "scores": [
            {
                "stage": STAGES.get(what) or stage_title(what),
                **{key: score.record["protocol"][key] for key in ("split", "images", "threshold")},
                **{key: score.record[key] for key in ("miou", "best", "curve", "confusion")},
                "missed": score.record["missed"],
            }
            for what, score in material.scores.items()
        ],
    }


def to_html(
    index: Index, runs: Sequence[Mapping[str, Any]], images: Sequence[Mapping[str, Any]]
) -> str:
    """Return the page; nothing in it is fetched but the pictures beside it."""
    import jinja2  # noqa: PLC0415  # of use here alone

    numbers = range(len(index.classes) + 1)
    data = {
        "dataset": index.dataset,
        "classes": ["background", *index.classes],
        "colours": [labelmap.colour(label) for label in numbers],
        "open": "#{:02x}{:02x}{:02x}".format(*OPEN),
        "series": [colour for colour in SERIES if colour != PURE_BLACK],
        "stages": STAGES,
        "kinds": KINDS,
        "enlarged_px": CELL,
        "strength": STRENGTH,
        "runs": runs,
        "images": images,
    }
    package = files("wsss.report.gallery")
    style = COLOURS + "\n" + package.joinpath("style.css").read_text(encoding="utf-8")
    script = package.joinpath("script.js").read_text(encoding="utf-8")
    template = package.joinpath("page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, keep_trailing_newline=True)
    return environment.from_string(template).render(
        title=f"Gallery of {index.dataset}",
        names=[each["name"] for each in runs],
        style=style,
        script=script,
        data=as_json(data),
        style_hash=_hash(style),
        script_hash=_hash(script),
        heat=heat_colours(),
    )


def as_json(data: Mapping[str, Any]) -> str:
    """Return data as JSON that may stand in a script element: it holds no `<`."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _hash(text: str) -> str:
    """Return the hash by which a policy allows a script or style."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
