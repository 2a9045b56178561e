"""Score seeds, walked maps, pseudo labels and segmentations, each with its protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsss.archive import Reader
from wsss.camstore import CamReader
from wsss.data import labelmap
from wsss.data.images import load_mask
from wsss.data.index import Entry, Index, load_index
from wsss.errors import ConfigError, DatasetError
from wsss.metrics import Counts, ThresholdCurve, class_scores, confusion, mean_iou, thresholds
from wsss.plan import SCORED_ARTIFACT, Run
from wsss.progress import log, progress
from wsss.record import Recorder


def evaluate(run: Run, what: str) -> None:
    """Write `eval/<what>.json`: mIoU with its protocol, confusion, classes, threshold curve."""
    if f"eval/{what}" not in run.stages():
        raise ConfigError(f"{run} has no {what!r} to evaluate.")
    index = load_index(run.index)
    split = "val" if what == "segmentation" else "train"
    entries = scored(index, split)
    source = run.path(f"{SCORED_ARTIFACT[what]}.zip")
    record = Recorder(f"eval/{what}", run.slice(f"eval/{what}"), run.code(f"eval/{what}"), run.seed)
    convention = run.settings.evaluation.convention
    if what in ("seed", "walk"):
        result = score_maps(entries, index, source, run.slice(f"eval/{what}"))
    else:
        result = score_labels(entries, index, source, convention)
    protocol = {
        "split": split,
        "images": len(entries),
        "labels_used": what != "segmentation",
        "crf": run.slice(f"eval/{what}").get("crf", "none"),
        "convention": convention,
        "threshold": run.slice(f"eval/{what}").get("threshold"),
    }
    content = {"run": str(run), "what": what, "protocol": protocol, **result}
    record.write(run.path(f"eval/{what}.json"), [run.index, source], [], **content)
    log.info(
        "%s of %s: mIoU %.3f on %s (%d images)", what, run, result["miou"], split, len(entries)
    )


def scored(index: Index, split: str) -> list[Entry]:
    """Return the images of a split that have a mask; an error if there are none."""
    entries = [entry for entry in index.split(split) if entry.mask]
    if not entries:
        raise DatasetError(
            f"No image of the split {split!r} of {index.dataset} has a mask, so nothing can be scored. "
            "Give masks for some of them in the index."
        )
    return entries


def score_maps(
    entries: list[Entry], index: Index, source: Path, params: dict[str, Any]
) -> dict[str, Any]:
    """Score class maps at the fixed threshold, and at every threshold of the curve."""
    levels = thresholds(params["thresholds"])
    classes, cams = len(index.classes) + 1, CamReader(source)
    curve = ThresholdCurve(classes, levels)
    fixed = ThresholdCurve(classes, np.array([params["threshold"]], np.float32))
    for entry in progress(entries, "evaluate maps"):
        truth, cam = _mask(entry), cams[entry.name]
        maps = cam.full()
        for each in (curve, fixed):
            each.add(truth, maps, cam.labels)
    values = mean_iou(curve.matrices(), params["convention"])
    best = int(values.argmax())
    return {
        **summary(fixed.matrices()[0], index, params["convention"]),
        "best": {"threshold": round(float(levels[best]), 6), "miou": round(float(values[best]), 6)},
        "curve": {
            "thresholds": [round(float(level), 6) for level in levels],
            "miou": [round(float(value), 6) for value in values],
        },
    }


def score_labels(
    entries: list[Entry], index: Index, source: Path, convention: str
) -> dict[str, Any]:
    """Score label images; a predicted 255 counts as background, and coverage says how many there are."""
    classes, reader = len(index.classes) + 1, Reader(source)
    counts: Counts = np.zeros((classes, classes), np.int64)
    ignored = pixels = 0
    for entry in progress(entries, "evaluate labels"):
        name = f"{entry.name}.png"
        prediction = labelmap.decode(reader.read(name), f"{source}/{name}")
        unknown = prediction == labelmap.IGNORE
        ignored, pixels = ignored + int(unknown.sum()), pixels + prediction.size
        counts += confusion(_mask(entry), np.where(unknown, 0, prediction), classes)
    result = summary(counts, index, convention)
    return {**result, "coverage": round(1 - ignored / pixels, 6), "best": None, "curve": None}


def _mask(entry: Entry) -> NDArray[np.uint8]:
    return load_mask(str(entry.mask))  # `scored` left out the images without one


def summary(counts: Counts, index: Index, convention: str) -> dict[str, Any]:
    """Return mIoU, per-class scores and the matrix itself, ready for JSON."""
    scores = class_scores(counts)
    names = ("background", *index.classes)
    classes = [
        {"name": name, **{key: _number(values[label]) for key, values in scores.items()}}
        for label, name in enumerate(names)
    ]
    miou = round(float(mean_iou(counts, convention)), 6)
    return {"miou": miou, "coverage": 1.0, "classes": classes, "confusion": counts.tolist()}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
