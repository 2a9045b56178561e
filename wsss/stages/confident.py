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
from wsss.machine.accelerator import crf_device, device_name
from wsss.progress import progress
from wsss.refine import crf
from wsss.refine.affinity import from_thresholds
from wsss.runs.calibration import affinity_label_params
from wsss.runs.inputs import index_parts
from wsss.runs.record import recorder
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
    device = crf_device(run.settings.crf.device) if params.crf != "none" else None
    crf.check_installed(params.crf, device)
    verify_sources(run, "confident")
    index = load_index(run.index, *index_parts(run, "confident"))
    record = recorder(run, "confident", device_name(device))
    entries, target = index.training(), run.path("confident.zip")
    prepare = functools.partial(label_task, index, run.path("cam.zip"), params)
    shares = np.zeros(3)
    with archive.Writer(target) as writer:
        images = crf.refined(prepare, entries, params.crf, processes, device)
        for image in progress(images, "affinity labels", len(entries)):
            labels = certain(index, image)
            writer.add(f"{image.name}.png", labelmap.encode(labels))
            ignored = labels == labelmap.IGNORE
            shares += [(labels == 0).mean(), ((labels > 0) & ~ignored).mean(), ignored.mean()]
    names = ("background", "foreground", "ignored")
    metrics = dict(zip(names, (shares / max(1, len(entries))).round(4).tolist(), strict=True))
    inputs = source_files(run, "confident")
    record.write(run.path("confident.json"), inputs, [target], metrics=metrics)


def label(
    index: Index,
    cams: Path,
    params: AffinityLabelParams,
    entry: Entry,
    device: str | None = None,
) -> NDArray[np.uint8]:
    """Return the affinity labels (H, W) of one image; 255 is neither foreground nor background."""
    prepare = functools.partial(label_task, index, cams, params)
    (image,) = crf.refined(prepare, [entry], params.crf, 1, device)
    return certain(index, image)


def certain(index: Index, image: crf.Refined) -> NDArray[np.uint8]:
    """Return affinity labels (H, W) from labels with a large and with a small background."""
    foreground, background = image.after
    return from_thresholds(foreground, background, range(len(index.classes)))


def label_task(index: Index, cams: Path, params: AffinityLabelParams, entry: Entry) -> crf.CrfTask:
    """Return the labels (H, W) of one image with a large and with a small background, for the CRF."""
    cam = cam_reader(cams)[entry.name]
    if not len(cam.labels):
        return crf.CrfTask(entry.name, [np.zeros(entry.size, np.uint8)] * 2)
    among = crf.counted(params, cam.labels, len(index.classes) + 1)
    compact, energies = _two_labels(cam.full(), params, among)
    names = np.array([0, *(cam.labels + 1)], np.uint8)
    before = [names[labels] for labels in compact]
    if params.crf == "none":
        return crf.CrfTask(entry.name, before)
    return crf.CrfTask(
        entry.name, before, crf.CrfInput(load_entry(entry), np.stack(energies), names)
    )


def _two_labels(
    maps: Array, params: AffinityLabelParams, among: int
) -> tuple[list[Array], list[Array]]:
    """Return labels 0..K (H, W) of maps (K, H, W), and their energies (K + 1, H * W).

    The first have a large background, the second a small one. among: number of labels in the energy of
    the CRF.
    """
    levels = (float(params.foreground), float(params.background))
    if params.unary == "scores":
        power = 1 - maps.max(0, keepdims=True)
        scores = [np.concatenate([power**exponent, maps]) for exponent in levels]
        return [score.argmax(0) for score in scores], [crf.scores_unary(score) for score in scores]
    compact = [seed(maps, range(len(maps)), level) for level in levels]
    return list(compact), [crf.labels_unary(labels, len(maps) + 1, among) for labels in compact]
