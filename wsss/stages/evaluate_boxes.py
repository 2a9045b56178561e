"""Score boxes: which class an image has, where its object is, and how an answer goes wrong."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wsss.data.index import Entry, load_index
from wsss.progress import log, progress
from wsss.runs.describe import described
from wsss.runs.record import Recorder
from wsss.runs.run import Run
from wsss.scores.boxes import OUTCOMES, score, true_boxes
from wsss.storage.archive import Reader, unpack_arrays
from wsss.storage.files import write_text

CRITERIA = ("top1", "top5", "gt_known", "top1_class", "top5_class")


def evaluate_boxes(run: Run) -> None:
    """Write `eval/boxes.json`: the share of images by criterion, and the counts of outcomes.

    Beside it `eval/boxes.csv` has every image.
    """
    index, source = load_index(run.index), run.path("boxes.zip")
    stage = "eval/boxes"
    record = Recorder(stage, run.slice(stage), run.code(stage), run.seed)
    reader = Reader(source)
    entries = index.of_one_class("val")
    scores = []
    for entry in progress(entries, "evaluate boxes"):
        found = unpack_arrays(reader.read(f"{entry.name}.npz"))
        truth = true_boxes(entry, index, int(found["side"]))
        label = index.numbers(entry.labels)[0]
        classes, places = found["classes"].tolist(), found["boxes"].tolist()
        scores.append(score(label, classes, places, found["own"].tolist(), truth))
    protocol = {"split": "val", "images": len(scores)}
    protocol["threshold"] = run.settings.boxes.threshold
    content = {"run": str(run), "what": "boxes", "protocol": protocol, **summary(scores)}
    content["described"] = described(run, "boxes")
    by_image = run.path(f"{stage}.csv")
    write_images(by_image, entries, scores)
    record.write(run.path(f"{stage}.json"), [run.index, source], [by_image], **content)
    log.info(
        "localization of %s: Top-1 %.3f, GT-known %.3f on %d images",
        run,
        content["top1"],
        content["gt_known"],
        len(scores),
    )


def write_images(path: Path, entries: Iterable[Entry], scores: Iterable[Mapping[str, Any]]) -> None:
    """Write a line for each image: which criteria it meets (0 or 1), and its outcome."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", *CRITERIA, "outcome"))
    for entry, score_of in zip(entries, scores, strict=True):
        met = (int(score_of[name]) for name in CRITERIA)
        writer.writerow((entry.name, *met, score_of["outcome"]))
    write_text(path, text.getvalue())


def summary(scores: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the share of images that meet each criterion, and how many have each outcome."""
    found = list(scores)
    outcomes = Counter(each["outcome"] for each in found)
    shares = {name: round(float(np.mean([each[name] for each in found])), 6) for name in CRITERIA}
    return {**shares, "outcomes": {name: outcomes[name] for name in OUTCOMES}}
