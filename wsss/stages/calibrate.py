"""Choose the thresholds for class maps by the masks of a few training images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wsss.data.images import load_truth
from wsss.data.index import Entry, Index, load_index
from wsss.errors import ConfigError
from wsss.progress import log, progress
from wsss.runs.calibration import Calibration, thresholds_path
from wsss.runs.inputs import index_parts
from wsss.runs.record import recorder
from wsss.runs.run import Run
from wsss.runs.sources import source_files, verify_sources
from wsss.scores.metrics import ThresholdCurve, mean_iou, thresholds
from wsss.settings.thresholds import sure_levels
from wsss.storage.cam_archive import CamReader
from wsss.storage.files import write_json

LEVELS = 100  # thresholds that are tried: k / 100
CONVENTION = "A"  # of the mean IoU that is the highest; that of scores changes no training


def calibrate(run: Run, maps: str) -> None:
    """Write the thresholds for an archive of maps: cam, cam-NETWORK or walk.

    With masks of fewer than four training images they are the method's published ones.
    """
    stage = f"calibrate-{maps}"
    if stage not in run.stages():
        raise ConfigError(f"{run} calibrates no threshold for {maps!r}.")
    verify_sources(run, stage)
    index = load_index(run.index, *index_parts(run, stage))
    source, target = run.path(f"{maps}.zip"), thresholds_path(run, maps)
    record = recorder(run, stage)
    entries = index.calibration(run.settings.calibration.images)
    if entries:
        chosen = by_masks(entries, index, source)
    else:
        chosen = published(run, maps)
        log.warning(
            "%s: fewer than four training images have masks, so the thresholds of %s are the published ones",
            *(run, maps),
        )
    write_json(target, chosen.model_dump(mode="json"))
    record.write(run.path(f"{stage}.json"), source_files(run, stage), [target])
    log.info("%s: thresholds of %s: %s", run, maps, in_words(chosen))


def by_masks(entries: Sequence[Entry], index: Index, source: Path) -> Calibration:
    """Return the thresholds with the best mIoU on images with masks; the lowest of equal ones."""
    classes, levels = len(index.classes) + 1, thresholds(LEVELS)
    curve, cams = ThresholdCurve(classes, levels), CamReader(source)
    for entry in progress(entries, "calibrate"):
        cam = cams[entry.name]
        curve.add(load_truth(entry, classes - 1), cam.full(), cam.labels)
    values = mean_iou(curve.matrices(), CONVENTION)
    best = int(np.argmax(values))
    threshold = best / LEVELS
    foreground, background = sure_levels(threshold)
    return Calibration(
        threshold=threshold,
        foreground=foreground,
        background=background,
        choice="masks",
        images=len(entries),
        miou=round(float(values[best]), 6),
        curve=tuple(round(float(value), 6) for value in values),
    )


def published(run: Run, maps: str) -> Calibration:
    """Return the published thresholds of the method of a run, for data without masks."""
    numbers = run.published_thresholds
    return Calibration(
        threshold=numbers.pseudo if maps == "walk" else numbers.seed,
        foreground=numbers.foreground,
        background=numbers.background,
        choice="published",
        images=0,
    )


def in_words(chosen: Calibration) -> str:
    """Return thresholds as a person reads them."""
    score = "" if chosen.miou is None else f", mIoU {chosen.miou:.3f} of {chosen.images} images"
    return (
        f"{chosen.threshold:g} (sure foreground {chosen.foreground:g}, background "
        f"{chosen.background:g}{score})"
    )
