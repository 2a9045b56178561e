"""Score boxes: which class an image has, where its object is, and how an answer goes wrong."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wsss.archive import Reader, unpack_arrays
from wsss.boxes import OUTCOMES, Box, of_objects, score
from wsss.data.cub import in_frame
from wsss.data.images import load_mask
from wsss.data.index import Entry, Index, load_index
from wsss.describe import described
from wsss.errors import DatasetError
from wsss.files import write_text
from wsss.plan import Run
from wsss.progress import log, progress
from wsss.record import Recorder

CRITERIA = ("top1", "top5", "gt_known", "top1_class", "top5_class")


def localization(run: Run) -> None:
    """Write `eval/localization.json`: the share of images by criterion, and the counts of outcomes.

    Beside it `eval/localization.csv` has every image.
    """
    index, source = load_index(run.index), run.path("boxes.zip")
    stage = "eval/localization"
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
    protocol["threshold"] = run.settings.localization.threshold
    content = {"run": str(run), "what": "localization", "protocol": protocol, **summary(scores)}
    content["described"] = described(run, "localization")
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


def true_boxes(entry: Entry, index: Index, side: int) -> list[Box]:
    """Return the boxes of the objects of an image in the square of `side` pixels.

    Without boxes in the index they are those of the connected objects in the mask.
    """
    own = list(entry.boxes)
    if not own and entry.mask:
        own = of_objects(load_mask(entry.mask) == index.numbers(entry.labels)[0] + 1)
    if not own:
        raise DatasetError(
            f"The image {entry.name} of {index.dataset} has neither boxes nor a mask of its class, so "
            "localization cannot be scored. Use a dataset with one of them."
        )
    return [in_frame(box, entry.size, side) for box in own]


def summary(scores: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the share of images that meet each criterion, and how many have each outcome."""
    found = list(scores)
    outcomes = Counter(each["outcome"] for each in found)
    shares = {name: round(float(np.mean([each[name] for each in found])), 6) for name in CRITERIA}
    return {**shares, "outcomes": {name: outcomes[name] for name in OUTCOMES}}
