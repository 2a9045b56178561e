"""The scores of every image of an evaluation, as a CSV for statistics of one's own."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from wsss.data.index import load_index
from wsss.errors import ConfigError
from wsss.report.tables.rows import read
from wsss.runs.run import Run
from wsss.scores.bootstrap import read_images
from wsss.scores.metrics import class_scores, mean_iou
from wsss.storage.files import write_text

DIGITS = 6


def scores(run: Run, what: str = "segmentation", target: Path | None = None) -> Path:
    """Write a line for each scored image and return the path.

    miou: mean over the classes in the truth or in the prediction of this image. Then the IoU of every
    class; empty where the class is in neither.

    Raises:
        ConfigError: the run has no such evaluation of masks.
    """
    scored = [name for name in run.scored if name != "boxes"]
    if what not in scored:
        raise ConfigError(
            f"{what!r} is not one of {', '.join(scored) or 'its scores: it has none'}."
        )
    evaluation = run.path(f"eval/{what}.json")
    split = read(evaluation, run.params).protocol.split
    index = load_index(run.index)
    names = [entry.name for entry in index.scored(split, run.held_out(what))]
    classes = len(index.classes) + 1
    matrices = read_images(evaluation.with_suffix(".csv"), names, classes)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "miou", "background", *index.classes])
    for place, name in enumerate(names):
        counts = matrices[[place]].toarray().reshape(classes, classes + 1)
        ious = class_scores(counts)["iou"]
        cells = ["" if np.isnan(iou) else round(float(iou), DIGITS) for iou in ious]
        writer.writerow([name, round(float(mean_iou(counts)), DIGITS), *cells])
    path = target or run.results / (
        f"scores-{what}-{run.dataset}-{run.method}-{run.protocol}-s{run.seed}.csv"
    )
    write_text(path, text.getvalue())
    return path
