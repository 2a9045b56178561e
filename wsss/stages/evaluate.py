"""Score seeds, walked maps, pseudo labels and segmentations, each with its protocol."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsss.data import labelmap
from wsss.data.images import load_truth
from wsss.data.index import Entry, Index, load_index
from wsss.errors import ConfigError, DatasetError
from wsss.progress import log, progress
from wsss.runs.describe import described
from wsss.runs.inputs import data_archive
from wsss.runs.record import Recorder
from wsss.runs.run import VALIDATED, Run, scored_artifact, stage_kind
from wsss.scores import co_occurrence
from wsss.scores.bootstrap import write_images
from wsss.scores.metrics import (
    Counts,
    ThresholdCurve,
    class_scores,
    confusion,
    early_stop,
    erode,
    mean_iou,
    pixel_scores,
    seed,
    thresholds,
)
from wsss.scores.phenomena import Phenomena
from wsss.stages.evaluate_boxes import evaluate_boxes
from wsss.storage.archive import Reader
from wsss.storage.cam_archive import CamReader


class Images:
    """What is kept of each scored image, at the fixed threshold: its confusion matrix by name.

    phenomena: sees every true and predicted label image too.
    """

    def __init__(self, classes: int, phenomena: Phenomena | None = None) -> None:
        self.confusions: dict[str, Counts] = {}
        self._classes, self._phenomena = classes, phenomena

    def add(
        self,
        entry: Entry,
        truth: NDArray[np.uint8],
        labels: NDArray[np.uint8],
        unlabelled: str | None = None,
    ) -> Counts:
        """Count the pixels (H, W) of one image and return the counts."""
        counts = confusion(truth, labels, self._classes, unlabelled)
        self.confusions[entry.name] = counts
        if self._phenomena:
            self._phenomena.add(entry, truth, labels)
        return counts


def evaluate(run: Run, what: str) -> None:
    """Write `eval/<what>.json`: mIoU with its protocol, confusion, classes, curve, phenomena.

    Beside it `eval/<what>.csv` has the confusion of every image, for intervals over images.
    """
    if f"eval/{what}" not in run.stages():
        raise ConfigError(f"{run} has no {what!r} to evaluate.")
    if what == "boxes":
        evaluate_boxes(run)
        return
    index = load_index(run.index)
    split = "val" if what in VALIDATED else "train"
    entries = scored(index, split)
    source = run.path(f"{scored_artifact(what)}.zip")
    record = Recorder(f"eval/{what}", run.slice(f"eval/{what}"), run.code(f"eval/{what}"), run.seed)
    params = run.slice(f"eval/{what}")
    score = score_maps if stage_kind(what) in ("seed", "walk") else score_labels
    archive = data_archive(run.params, run.dataset)
    phenomena = Phenomena(entries, index, archive)
    images = Images(len(index.classes) + 1, phenomena)
    result = score(entries, index, source, params, images)
    protocol = {
        "split": split,
        "images": len(entries),
        "labels_used": what not in VALIDATED,
        "crf": params.get("crf", "none"),
        "convention": params["convention"],
        "threshold": params.get("threshold"),
        "unlabelled": params.get("unlabelled"),
        "erode_px": params.get("erode_px", 0),
    }
    content = {"run": str(run), "what": what, "protocol": protocol, **result}
    content |= {"described": described(run, what), "phenomena": phenomena.summary()}
    if stage_kind(what) == "seed" and archive and co_occurrence.marked(index, archive):
        marks = co_occurrence.reader(archive)
        truth = functools.partial(load_truth, classes=len(index.classes))
        content["context"] = co_occurrence.activations(
            entries, index, CamReader(source), truth, marks
        )
    by_image = run.path(f"eval/{what}.csv")
    write_images(by_image, images.confusions)
    record.write(run.path(f"eval/{what}.json"), [run.index, source], [by_image], **content)
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
    entries: list[Entry],
    index: Index,
    source: Path,
    params: dict[str, Any],
    images: Images | None = None,
) -> dict[str, Any]:
    """Score class maps at the fixed threshold, and at every threshold of the curve.

    Without a fixed threshold the maps have a background of their own (PSA), and there is no curve.
    Of eroded maps the scores without erosion are given too. images: sees every image.
    """
    images = images or Images(len(index.classes) + 1)
    if params["threshold"] is None:
        counts = _count_walked(entries, index, source, params["erode_px"], images)
        return {**summary(counts, index, params["convention"]), "best": None, "curve": None}
    found = _thresholds_scored(entries, index, source, params, images)
    if not params["erode_px"]:
        return found
    unseen = Images(len(index.classes) + 1)
    plain = _thresholds_scored(entries, index, source, {**params, "erode_px": 0}, unseen)
    return {**found, "uneroded": {key: plain[key] for key in ("miou", "best", "curve")}}


def _thresholds_scored(
    entries: list[Entry], index: Index, source: Path, params: dict[str, Any], images: Images
) -> dict[str, Any]:
    levels = thresholds(params["thresholds"])
    both = np.append(levels, np.float32(params["threshold"]))
    counts = _count_maps(entries, index, source, both, params["erode_px"], images)
    values = mean_iou(counts[:-1], params["convention"])
    best, stopped = int(values.argmax()), early_stop(levels, values)
    return {
        **summary(counts[-1], index, params["convention"]),
        "best": {"threshold": _rounded(levels[best]), "miou": _rounded(values[best])},
        "early_stop": {"threshold": _rounded(stopped[0]), "miou": _rounded(stopped[1])},
        "curve": {
            "thresholds": [_rounded(level) for level in levels],
            "miou": [_rounded(value) for value in values],
        },
    }


def _count_maps(
    entries: list[Entry],
    index: Index,
    source: Path,
    levels: NDArray[np.float32],
    erode_px: int,
    images: Images,
) -> Counts:
    """Return the confusion matrices (thresholds, classes, classes) of class maps at `levels`.

    images: sees each image at the last level.
    """
    classes, cams = len(index.classes) + 1, CamReader(source)
    order = np.argsort(levels, kind="stable")
    curve = ThresholdCurve(classes, levels[order])
    eroded: Counts = np.zeros((len(levels), classes, classes), np.int64)
    for entry in progress(entries, "evaluate maps"):
        truth, cam = load_truth(entry, classes - 1), cams[entry.name]
        maps = cam.full()
        if not erode_px:
            curve.add(truth, maps, cam.labels)
            images.add(entry, truth, seed(maps, cam.labels, float(levels[-1])))
            continue
        for place, level in enumerate(levels[:-1]):  # what is cut, no histogram tells
            labels = erode(seed(maps, cam.labels, float(level)), erode_px)
            eroded[place] += confusion(truth, labels, classes)
        labels = erode(seed(maps, cam.labels, float(levels[-1])), erode_px)
        eroded[-1] += images.add(entry, truth, labels)
    return eroded if erode_px else curve.matrices()[np.argsort(order)]


def _count_walked(
    entries: list[Entry], index: Index, source: Path, erode_px: int, images: Images
) -> Counts:
    """Return the confusion matrix of class maps against the background that walked along."""
    classes, cams = len(index.classes) + 1, CamReader(source)
    counts: Counts = np.zeros((classes, classes), np.int64)
    for entry in progress(entries, "evaluate maps"):
        cam = cams[entry.name]
        labels = seed(cam.full(), cam.labels, cam.full_background(1.0)[0])
        labels = erode(labels, erode_px) if erode_px else labels
        counts += images.add(entry, load_truth(entry, classes - 1), labels)
    return counts


def score_labels(
    entries: list[Entry],
    index: Index,
    source: Path,
    params: dict[str, Any],
    images: Images | None = None,
) -> dict[str, Any]:
    """Score label images; coverage is the share of pixels that are not 255. images: as above."""
    classes, reader = len(index.classes) + 1, Reader(source)
    images = images or Images(classes)
    columns = classes + (params["unlabelled"] == "missed")
    counts: Counts = np.zeros((classes, columns), np.int64)
    ignored = pixels = 0
    for entry in progress(entries, "evaluate labels"):
        name = f"{entry.name}.png"
        prediction = labelmap.decode(reader.read(name), f"{source}/{name}")
        ignored += int((prediction == labelmap.IGNORE).sum())
        pixels += prediction.size
        truth = load_truth(entry, classes - 1)
        counts += images.add(entry, truth, prediction, params["unlabelled"])
    result = summary(counts, index, params["convention"])
    return {**result, "coverage": round(1 - ignored / pixels, 6), "best": None, "curve": None}


def summary(counts: Counts, index: Index, convention: str) -> dict[str, Any]:
    """Return mIoU under every convention, per-class scores and the matrix itself, ready for JSON.

    counts: (classes, classes), or with one more column for pixels that were given no class.
    """
    scores = class_scores(counts)
    names = ("background", *index.classes)
    classes = [
        {"name": name, **{key: _number(values[label]) for key, values in scores.items()}}
        for label, name in enumerate(names)
    ]
    return {
        "miou": _rounded(mean_iou(counts, convention)),
        "coverage": 1.0,
        "miou_by_convention": {each: _rounded(mean_iou(counts, each)) for each in "ABCD"},
        **{key: _rounded(value) for key, value in pixel_scores(counts).items()},
        "classes": classes,
        "confusion": counts[:, : len(names)].tolist(),
        "missed": counts[:, len(names) :].sum(1).tolist(),
    }


def _rounded(value: Any) -> float:
    return round(float(value), 6)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else _rounded(value)
