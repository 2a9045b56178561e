"""Score seeds, walked maps, pseudo labels and segmentations, each with its protocol."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsss.data import labelmap
from wsss.data.images import load_truth
from wsss.data.index import Entry, Index, load_index
from wsss.errors import ConfigError, DatasetError
from wsss.progress import log, progress
from wsss.runs.describe import described
from wsss.runs.evaluation import (
    ClassScores,
    ContextActivation,
    CrfFreeScores,
    Curve,
    Evaluation,
    MaskScores,
    Protocol,
    Scoring,
    ThresholdScore,
    UnerodedScores,
)
from wsss.runs.inputs import data_archive, index_parts
from wsss.runs.record import Recorder
from wsss.runs.run import VALIDATED, Run, scored_artifact, stage_kind
from wsss.runs.sources import source_files, verify_sources
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
from wsss.storage.archive import Reader, before_crf
from wsss.storage.cam_archive import CamReader

CONVENTIONS = "ABCD"  # of averaging the classes, as in `metrics.mean_iou`


class ImageCounts:
    """The confusion matrix of every scored image at the fixed threshold, by the image's name.

    phenomena: counts the same images too.
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

    `eval/<what>.csv` beside it holds the confusion matrix of every image, for intervals over images.
    """
    if f"eval/{what}" not in run.stages():
        raise ConfigError(f"{run} has no {what!r} to evaluate. It has {', '.join(run.scored)}.")
    verify_sources(run, f"eval/{what}")
    if what == "boxes":
        evaluate_boxes(run)
        return
    index = load_index(run.index, *index_parts(run, f"eval/{what}"))
    source = run.path(f"{scored_artifact(what)}.zip")
    entries = scored(index, _split(what), run.held_out(what))
    unscored = sum(not entry.mask for entry in index.split(_split(what)))
    stage, by_image = f"eval/{what}", run.path(f"eval/{what}.csv")
    record = Recorder(stage, run.slice(stage), run.code(stage), run.seed)
    scoring = Scoring.of(run, what)
    phenomena = Phenomena(entries, index, data_archive(run.params, run.dataset))
    images = ImageCounts(len(index.classes) + 1, phenomena)
    score = score_maps if stage_kind(what) in ("seed", "walk") else score_labels
    scores = score(entries, index, source, scoring, images)
    evaluation = Evaluation(
        run=str(run),
        what=what,
        protocol=_protocol(run, what, scoring, entries, unscored),
        described=described(run, what),
        phenomena=phenomena.summary(),
        **scores.model_dump(exclude_unset=True),
        **_context(run, what, entries, index),
    )
    write_images(by_image, images.confusions)
    path = run.path(f"{stage}.json")
    record.write(path, source_files(run, stage), [by_image], **evaluation.content())
    left_out = f", {unscored} without a mask left out" if unscored else ""
    place = f"{_split(what)} ({len(entries)} images{left_out})"
    log.info("%s of %s: mIoU %.3f on %s", what, run, scores.miou, place)


def _split(what: str) -> str:
    return "val" if what in VALIDATED else "train"


def _protocol(
    run: Run, what: str, scoring: Scoring, entries: Sequence[Entry], unscored: int
) -> Protocol:
    views = {"decode": run.settings.decode, "segmentation": run.settings.segmenter.test}
    test = views.get(what, run.settings.cam)
    is_unknown = run.brought and (what != "segmentation" or run.is_brought("masks"))
    return Protocol(
        split=_split(what),
        images=len(entries),
        labels_used=what not in VALIDATED,
        scales=() if is_unknown else test.scales,
        mirror=None if is_unknown else test.mirror,
        unscored=unscored,
        data=truth_digest(entries),
        **scoring.model_dump(exclude={"thresholds"}),
    )


def truth_digest(entries: Iterable[Entry]) -> str:
    """Return 12 hexadecimal digits for the names of the scored images and the checksums of their masks."""
    lines = (f"{entry.name} {entry.mask_checksum}" for entry in entries)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def _context(
    run: Run, what: str, entries: list[Entry], index: Index
) -> dict[str, tuple[ContextActivation, ...]]:
    """Return the field `context` of a seed's evaluation; nothing without marks of contexts."""
    archive = data_archive(run.params, run.dataset)
    if stage_kind(what) != "seed" or not archive or not co_occurrence.marked(index, archive):
        return {}
    cams = CamReader(run.path(f"{scored_artifact(what)}.zip"))
    truth = functools.partial(load_truth, classes=len(index.classes))
    marks = co_occurrence.reader(archive)
    return {"context": co_occurrence.activations(entries, index, cams, truth, marks)}


def scored(index: Index, split: str, held_out: int = 0) -> list[Entry]:
    """Return the images of a split that are scored; an error if there are none.

    held_out: number of training images whose masks have chosen thresholds.
    """
    entries = index.scored(split, held_out)
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
    scoring: Scoring,
    images: ImageCounts | None = None,
) -> MaskScores:
    """Score class maps at the fixed threshold, and at every threshold of the curve.

    Without a fixed threshold the maps bring their own background (PSA), and there is no curve.
    Eroded maps are scored without erosion too. images: counts every image at the fixed threshold.
    """
    images = images or ImageCounts(len(index.classes) + 1)
    if scoring.threshold is None:
        counts = _count_walked(entries, index, source, scoring.erode_px, images)
        return summary(counts, index, scoring.convention)
    scores = _thresholds_scored(entries, index, source, scoring, images)
    if not scoring.erode_px:
        return scores
    without = scoring.model_copy(update={"erode_px": 0})
    not_counted = ImageCounts(len(index.classes) + 1)
    plain = _thresholds_scored(entries, index, source, without, not_counted)
    uneroded = UnerodedScores(miou=plain.miou, best=plain.best, curve=plain.curve)
    return scores.model_copy(update={"uneroded": uneroded})


def _thresholds_scored(
    entries: list[Entry], index: Index, source: Path, scoring: Scoring, images: ImageCounts
) -> MaskScores:
    levels = thresholds(scoring.thresholds)
    with_fixed = np.append(levels, np.float32(scoring.threshold))
    counts = _count_maps(entries, index, source, with_fixed, scoring.erode_px, images)
    values = mean_iou(counts[:-1], scoring.convention)
    best = int(values.argmax())
    stop_level, stop_value, _ = early_stop(levels, values)
    extra = {
        "best": ThresholdScore(threshold=_rounded(levels[best]), miou=_rounded(values[best])),
        "early_stop": ThresholdScore(threshold=_rounded(stop_level), miou=_rounded(stop_value)),
        "curve": Curve(
            thresholds=tuple(_rounded(level) for level in levels),
            miou=tuple(_rounded(value) for value in values),
        ),
    }
    return summary(counts[-1], index, scoring.convention).model_copy(update=extra)


def _count_maps(
    entries: list[Entry],
    index: Index,
    source: Path,
    levels: NDArray[np.float32],
    erode_px: int,
    images: ImageCounts,
) -> Counts:
    """Return the confusion matrices (thresholds, classes, classes) of class maps at `levels`.

    images: counts each image at the last level.
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
        for place, level in enumerate(levels[:-1]):  # no histogram can count eroded pixels
            labels = erode(seed(maps, cam.labels, float(level)), erode_px)
            eroded[place] += confusion(truth, labels, classes)
        labels = erode(seed(maps, cam.labels, float(levels[-1])), erode_px)
        eroded[-1] += images.add(entry, truth, labels)
    return eroded if erode_px else curve.matrices()[np.argsort(order)]


def _count_walked(
    entries: list[Entry], index: Index, source: Path, erode_px: int, images: ImageCounts
) -> Counts:
    """Return the confusion matrix of class maps whose archive holds their background's score."""
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
    scoring: Scoring,
    images: ImageCounts | None = None,
) -> MaskScores:
    """Score label images; their coverage is the share of pixels that are not 255.

    The labels before a CRF are scored too, if the archive has them. images: counts every image.
    """
    classes, reader = len(index.classes) + 1, Reader(source)
    images = images or ImageCounts(classes)
    columns = classes + (scoring.unlabelled == "missed")
    counts: Counts = np.zeros((classes, columns), np.int64)
    rough: Counts = np.zeros_like(counts)
    has_rough = scoring.crf != "none" and bool(entries) and reader.has(before_crf(entries[0].name))
    ignored = pixels = 0
    for entry in progress(entries, "evaluate labels"):
        prediction = _labels(reader, f"{entry.name}.png")
        ignored += int((prediction == labelmap.IGNORE).sum())
        pixels += prediction.size
        truth = load_truth(entry, classes - 1)
        counts += images.add(entry, truth, prediction, scoring.unlabelled)
        if has_rough:
            labels = _labels(reader, before_crf(entry.name))
            rough += confusion(truth, labels, classes, scoring.unlabelled)
    extra: dict[str, object] = {"coverage": round(1 - ignored / pixels, 6)}
    if has_rough:
        miou = _rounded(mean_iou(rough, scoring.convention))
        extra["before_crf"] = CrfFreeScores(miou=miou)
    return summary(counts, index, scoring.convention).model_copy(update=extra)


def _labels(reader: Reader, name: str) -> NDArray[np.uint8]:
    """Return a label image (H, W) of an archive."""
    return labelmap.decode(reader.read(name), f"{reader.path}/{name}")


def summary(counts: Counts, index: Index, convention: str) -> MaskScores:
    """Return the mIoU under every convention, the scores of every class, and the matrix itself.

    counts: (classes, classes), or with one more column for pixels that are in no class.
    """
    scores = class_scores(counts)
    names = ("background", *index.classes)
    columns = {key: [_number(value) for value in values] for key, values in scores.items()}
    pixels = {key: _rounded(value) for key, value in pixel_scores(counts).items()}
    return MaskScores(
        miou=_rounded(mean_iou(counts, convention)),
        coverage=1.0,
        miou_by_convention={name: _rounded(mean_iou(counts, name)) for name in CONVENTIONS},
        **pixels,
        classes=tuple(
            ClassScores(name=name, **{key: values[label] for key, values in columns.items()})
            for label, name in enumerate(names)
        ),
        confusion=counts[:, : len(names)].tolist(),
        missed=counts[:, len(names) :].sum(1).tolist(),
        best=None,
        curve=None,
    )


def _rounded(value: float | np.floating | NDArray[np.float64]) -> float:
    return round(float(value), 6)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else _rounded(value)
