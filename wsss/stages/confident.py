"""Affinity labels: a CAM's certain foreground and background pixels after a CRF; 255 elsewhere."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsss.data import labelmap
from wsss.data.images import load_entry
from wsss.data.index import Entry, Index, load_index
from wsss.progress import progress
from wsss.refine import crf
from wsss.refine.affinity import from_thresholds
from wsss.runs.calibration import affinity_label_params
from wsss.runs.inputs import index_parts
from wsss.runs.record import Recorder
from wsss.runs.run import Run
from wsss.runs.sources import source_files, verify_sources
from wsss.scores.metrics import seed
from wsss.settings import AffinityLabelParams
from wsss.storage import archive
from wsss.storage.cam_archive import cam_reader

Array = NDArray[Any]


def confident(run: Run, processes: int = 1) -> None:
    """Write the affinity labels of every training image."""
    params = affinity_label_params(run)
    if params.crf != "none":
        crf.check_installed()
    verify_sources(run, "confident")
    index = load_index(run.index, *index_parts(run, "confident"))
    record = Recorder("confident", run.slice("confident"), run.code("confident"), run.seed)
    entries, target = index.training(), run.path("confident.zip")
    work = functools.partial(label, index, run.path("cam.zip"), params)
    shares = np.zeros(3)
    with archive.Writer(target) as writer:
        results = crf.spread(work, entries, processes)
        for entry, labels in zip(
            entries, progress(results, "affinity labels", len(entries)), strict=True
        ):
            writer.add(f"{entry.name}.png", labelmap.encode(labels))
            ignored = labels == labelmap.IGNORE
            shares += [(labels == 0).mean(), ((labels > 0) & ~ignored).mean(), ignored.mean()]
    names = ("background", "foreground", "ignored")
    metrics = dict(zip(names, (shares / max(1, len(entries))).round(4).tolist(), strict=True))
    inputs = source_files(run, "confident")
    record.write(run.path("confident.json"), inputs, [target], metrics=metrics)


def label(index: Index, cams: Path, params: AffinityLabelParams, entry: Entry) -> NDArray[np.uint8]:
    """Return the affinity labels (H, W) of one image; 255 is neither foreground nor background."""
    cam = cam_reader(cams)[entry.name]
    labels = cam.labels.tolist()
    if not labels:
        return np.zeros(entry.size, np.uint8)
    maps, image = cam.full(), load_entry(entry)
    among = crf.counted(params, labels, len(index.classes) + 1)
    foreground, background = _two_labels(maps, image, params, among)
    return from_thresholds(foreground, background, labels)


def _two_labels(
    maps: Array, image: Array, params: AffinityLabelParams, among: int
) -> tuple[Array, Array]:
    """Return labels 0..K (H, W) of the maps (K, H, W) with a large and with a small background.

    among: number of labels in the energy of the CRF.
    """
    levels = (float(params.foreground), float(params.background))
    if params.unary == "scores":
        power = 1 - maps.max(0, keepdims=True)
        scores = [np.concatenate([power**exponent, maps]) for exponent in levels]
        if params.crf != "none":
            scores = crf.infer(image, [crf.scores_unary(score) for score in scores], params.crf)
    else:
        compact = [seed(maps, range(len(maps)), level) for level in levels]
        if params.crf == "none":
            return compact[0], compact[1]
        unaries = [crf.labels_unary(labels, len(maps) + 1, among) for labels in compact]
        scores = crf.infer(image, unaries, params.crf)
    return scores[0].argmax(0), scores[1].argmax(0)
