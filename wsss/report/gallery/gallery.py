"""Write a gallery: a folder with `index.html`, its pictures and `mistakes.csv`.

The pictures are files beside the page, because a browser loads such files when they come into view,
but reads pictures inside a page at once. 1,449 images open as fast as 24.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from wsss.data.images import load_entry
from wsss.data.index import Entry
from wsss.errors import ConfigError
from wsss.progress import progress
from wsss.report.figures.panels import Labels, choose, chosen, read_truth
from wsss.report.gallery import page, pictures
from wsss.report.gallery.material import SPLITS, STAGES, Material, of_one_dataset, split_of
from wsss.report.tables.long import csv_text
from wsss.report.tables.rows import Line
from wsss.runs.run import Run
from wsss.scores.metrics import Counts
from wsss.scores.mistakes import KINDS
from wsss.storage.files import beside, remove, write_text

PAGE, TABLE, PICTURES = "index.html", "mistakes.csv", "pictures"
HEADS = ("dataset", "method", "protocol", "seed", "stage", "images", "pixels", "wrong", *KINDS)
DIGITS = 6  # decimals of a share of pixels

# By run and stage: for every image its scored pixels, and its wrong ones by kind.
Totals = dict[tuple[str, str], list[Counts]]


def gallery(runs: Sequence[Run], count: int | None, folder: Path) -> int:
    """Write the gallery of `runs` and return how many images it has.

    count: number of training images and of validation images, spread evenly; None for all.

    Raises:
        ConfigError: the runs are of several datasets, or `folder` holds something else.
        MissingError: a run has nothing to show.
        StaleError: a finished stage of a run is out of date.
    """
    materials = of_one_dataset(runs)
    index = materials[0].index
    entries = chosen(index, _names(materials, count))
    totals: Totals = {}
    with _replacing(folder) as temporary:
        shown = [
            _image(entry, place, materials, temporary, totals)
            for place, entry in enumerate(progress(entries, "gallery"))
        ]
        lines = [_lines(material, totals) for material in materials]
        flat = [line for run_lines in lines for line in run_lines.values()]
        write_text(temporary / TABLE, csv_text(flat, HEADS))
        runs_data = [
            page.run(material, run_lines)
            for material, run_lines in zip(materials, lines, strict=True)
        ]
        write_text(temporary / PAGE, page.to_html(index, runs_data, shown))
    return len(entries)


def _names(materials: Sequence[Material], count: int | None) -> list[str]:
    """Return the names of the images that are shown, from every split that fills a column."""
    index = materials[0].index
    splits = {split_of(what) for material in materials for what in material.columns}
    shown: list[str] = []
    for split in (split for split in SPLITS if split in splits):
        names = [entry.name for entry in index.split(split)]
        shown += names if count is None else choose(names, count)
    return shown


def _image(
    entry: Entry, place: int, materials: Sequence[Material], folder: Path, totals: Totals
) -> dict[str, object]:
    """Write the pictures of one image and return its data for the page."""
    longest = materials[0].run.params.report.gallery_px
    truth = read_truth(entry)

    def save(name: str, content: bytes) -> str:
        path = (
            f"{PICTURES}/{place:05d}{name}"  # a number: the name of an image may hold any character
        )
        (folder / path).write_bytes(content)
        return path

    def cell(number: int, material: Material, what: str) -> dict[str, object]:
        stem = f"-{number}-{what}.png"
        if what == "cam":
            content, covered = pictures.heat(material.cam(entry), longest)
            return {"src": save(stem, content), "covered": covered}
        labels = material.labels(what, entry)
        src = save(stem, pictures.labels(labels, longest))
        return {"src": src, **_scored(material, what, entry, truth, labels, totals)}

    return {
        "name": entry.name,
        "split": entry.split,
        "labels": [number + 1 for number in materials[0].index.numbers(entry.labels)],
        "size": entry.size,
        "photo": save(".webp", pictures.photo(load_entry(entry), longest)),
        "truth": None if truth is None else save("-truth.png", pictures.labels(truth, longest)),
        "cells": [
            {what: cell(number, material, what) for what in _columns(material, entry)}
            for number, material in enumerate(materials)
        ],
    }


def _columns(material: Material, entry: Entry) -> list[str]:
    return [what for what in material.columns if split_of(what) == entry.split]


def _scored(
    material: Material,
    what: str,
    entry: Entry,
    truth: Labels | None,
    labels: Labels,
    totals: Totals,
) -> dict[str, object]:
    """Return the scores of one image in one column, and add its mistakes to the totals."""
    if truth is None:
        return {}
    counts = material.mistakes(what, truth, labels)
    totals.setdefault((str(material.run), what), []).append(counts)
    return {**material.score(what, entry), "mistakes": counts.tolist()}


def _lines(material: Material, totals: Totals) -> dict[str, Line]:
    """Return the lines of a run in `mistakes.csv`, by column: shares of the pixels of all images."""
    run, lines = material.run, {}
    for what in STAGES:
        images = totals.get((str(run), what))
        if images:
            pixels, *kinds = np.sum(images, axis=0).tolist()
            names = (run.dataset, run.method, run.protocol, run.seed, what)
            shares = [round(kind / max(pixels, 1), DIGITS) for kind in (sum(kinds), *kinds)]
            lines[what] = dict(zip(HEADS, (*names, len(images), pixels, *shares), strict=True))
    return lines


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Yield a new folder that replaces the gallery in `folder` only if the block succeeds."""
    target = folder.resolve()
    if target.exists() and not _is_replaceable(target):
        raise ConfigError(
            f"{folder} holds files that are not of a gallery and would be lost. Choose another "
            "--output, or empty it."
        )
    temporary, earlier = beside(target, "tmp"), beside(target, "earlier")
    try:
        (temporary / PICTURES).mkdir(parents=True)
        yield temporary
        if target.exists():  # moved first: a gallery that is half deleted would not be replaceable
            target.replace(earlier)
        temporary.replace(target)
    finally:
        remove(temporary)
        remove(earlier)


def _is_replaceable(folder: Path) -> bool:
    """Return whether a folder is empty or a gallery."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    return not names or (PAGE in names and names <= {PAGE, TABLE, PICTURES})


def image_count(text: str) -> int | None:
    """Return the number of images that `--images` asks for; None for `all`."""
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--images {text!r} is neither a number above 0 nor all.")
    return int(text)
