"""Pseudo labels: walked maps, or CAMs, against a constant background, with or without a CRF."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsss import archive, crf
from wsss.camstore import cam_reader
from wsss.data import labelmap
from wsss.data.images import load_image
from wsss.data.index import Entry, load_index
from wsss.metrics import seed
from wsss.plan import Run
from wsss.progress import progress
from wsss.record import Recorder
from wsss.schema import PseudoParams


def pseudo(run: Run, processes: int = 1) -> None:
    """Write the pseudo labels of every training image."""
    params = run.settings.pseudo
    if params.crf != "none":
        crf.check_installed()
    index, target = load_index(run.index), run.path("pseudo.zip")
    maps = run.path(f"{params.source}.zip")
    record = Recorder("pseudo", run.slice("pseudo"), run.code("pseudo"), run.seed)
    entries = index.training()
    work = functools.partial(label, maps, params, len(index.classes) + 1)
    results = crf.spread(work, entries, processes if params.crf != "none" else 1)
    with archive.Writer(target) as writer:
        for entry, labels in zip(
            entries, progress(results, "pseudo labels", len(entries)), strict=True
        ):
            writer.add(f"{entry.name}.png", labelmap.encode(labels))
    record.write(run.path("pseudo.json"), [run.index, maps], [target])


def label(maps: Path, params: PseudoParams, classes: int, entry: Entry) -> NDArray[np.uint8]:
    """Return the pseudo label (H, W) of one image. classes: with background."""
    cam = cam_reader(maps)[entry.name]
    scores, labels = cam.full(), cam.labels
    background = cam.full_background(params.threshold)
    if params.crf == "none" or not len(labels):
        return seed(scores, labels, background[0])
    unary = crf.scores_unary(np.concatenate([background, scores]))
    if params.unary == "labels":
        compact = seed(scores, range(len(labels)), background[0])
        unary = crf.labels_unary(compact, len(labels) + 1, crf.counted(params, labels, classes))
    chosen = crf.infer(load_image(entry.path), [unary], params.crf)[0].argmax(0)
    names = np.array([0, *(labels + 1)], np.uint8)
    return np.asarray(names[chosen])
