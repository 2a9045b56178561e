"""The page of a gallery: data, script and style in one file that may only load pictures."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files

from wsss.data import labelmap
from wsss.data.index import Index
from wsss.report.figures.charts import COLOURS as SERIES
from wsss.report.figures.panels import CELL, OPEN, STRENGTH
from wsss.report.gallery.material import STAGES, Material
from wsss.report.gallery.pictures import heat_colours
from wsss.report.tables.html import COLOURS
from wsss.report.tables.rows import Line, Score, stage_title
from wsss.scores.mistakes import KINDS

PURE_BLACK = "#000000"  # invisible on a dark page


def run(material: Material, mistakes: Mapping[str, Line]) -> dict[str, object]:
    """Return the data of a run for the page; mistakes: lines of `mistakes.csv`, by column."""
    return {
        "name": str(material.run),
        "title": material.title,
        "columns": material.columns,
        "notes": material.notes,
        "mistakes": mistakes,
        "scores": [_score(what, score) for what, score in material.scores.items()],
    }


def _score(what: str, score: Score) -> dict[str, object]:
    """Return the data of one evaluation for the page."""
    evaluation, protocol = score.evaluation, score.protocol
    return {
        "stage": STAGES.get(what) or stage_title(what),
        "split": protocol.split,
        "images": protocol.images,
        "threshold": protocol.threshold,
        "miou": evaluation.miou,
        "best": evaluation.best.model_dump() if evaluation.best else None,
        "curve": evaluation.curve.model_dump() if evaluation.curve else None,
        "confusion": evaluation.confusion,
        "missed": evaluation.missed,
    }


def to_html(
    index: Index, runs: Sequence[Mapping[str, object]], images: Sequence[Mapping[str, object]]
) -> str:
    """Return the page; a browser loads nothing for it but the pictures beside it."""
    import jinja2  # noqa: PLC0415  # only this function needs it

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
        names=[run_data["name"] for run_data in runs],
        style=style,
        script=script,
        data=as_json(data),
        style_hash=_hash(style),
        script_hash=_hash(script),
        heat=heat_colours(),
    )


def as_json(data: Mapping[str, object]) -> str:
    """Return data as JSON without `<`, which could end a script element."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _hash(text: str) -> str:
    """Return the hash with which a content security policy allows a script or a style."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
