"""Pseudo labels from walked maps or CAMs and a constant background, with or without a CRF."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsss.data import labelmap
from wsss.data.images import load_entry, load_saliency
from wsss.data.index import Entry, Index, load_index
from wsss.datasets.unlisted import missing_labels
from wsss.errors import DatasetError
from wsss.progress import progress
from wsss.refine import crf
from wsss.refine.saliency import attention_image, keep_agreed
from wsss.runs.calibration import pseudo_params
from wsss.runs.inputs import index_parts
from wsss.runs.record import Recorder
from wsss.runs.run import Run
from wsss.runs.sources import source_files, verify_sources
from wsss.scores.metrics import seed
from wsss.settings import PseudoParams, SaliencyParams
from wsss.storage import archive
from wsss.storage.cam_archive import Cam, cam_reader


def pseudo(run: Run, processes: int = 1) -> None:
    """Write the pseudo labels of every training image.

    Raises:
        DatasetError: `saliency.use` is set, but an image has no saliency map.
    """
    params = pseudo_params(run)
    if params.crf != "none":
        crf.check_installed()
    verify_sources(run, "pseudo")
    index = load_index(run.index, *index_parts(run, "pseudo"))
    target = run.path("pseudo.zip")
    entries, maps = index.training(), run.path(f"{params.source}.zip")
    check_saliency(entries, params.saliency)
    record = Recorder("pseudo", run.slice("pseudo"), run.code("pseudo"), run.seed)
    cams = run.path("cam.zip") if params.saliency.use else None
    work = functools.partial(pseudo_labels, index, maps, cams, params)
    slow = params.crf != "none" or params.saliency.use
    results = crf.spread(work, entries, processes if slow else 1)
    with archive.Writer(target) as writer:
        for entry, (labels, rough) in zip(
            entries, progress(results, "pseudo labels", len(entries)), strict=True
        ):
            writer.add(f"{entry.name}.png", labelmap.encode(labels))
            if rough is not None:
                writer.add(archive.before_crf(entry.name), labelmap.encode(rough))
    record.write(run.path("pseudo.json"), source_files(run, "pseudo"), [target])


def check_saliency(entries: list[Entry], params: SaliencyParams) -> None:
    """Raise a `DatasetError` if saliency is used and images have no saliency map."""
    missing = [entry.name for entry in entries if not entry.saliency] if params.use else []
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(entries)} training images have no saliency map (the first is "
            f"{missing[0]}). Set data.voc12.saliency to a folder with them, or "
            "pseudo.saliency.use: false."
        )


def pseudo_labels(
    index: Index, maps: Path, cams: Path | None, params: PseudoParams, entry: Entry
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Return the pseudo label (H, W) of one image and, with a CRF, the one that it has without."""
    labels = pseudo_label(index, maps, cams, params, entry)
    if params.crf == "none":
        return labels, None
    rough = params.model_copy(update={"crf": "none"})
    return labels, pseudo_label(index, maps, cams, rough, entry)


def pseudo_label(
    index: Index, maps: Path, cams: Path | None, params: PseudoParams, entry: Entry
) -> NDArray[np.uint8]:
    """Return the pseudo label (H, W) of one image from the archive of maps.

    cams: archive of CAMs; if it is given, pixels where CAM and saliency disagree become 255.
    """
    labels = label(maps, params, len(index.classes) + 1, entry)
    return labels if cams is None else agreed(index, cams, params.saliency, entry, labels)


def agreed(
    index: Index, cams: Path, params: SaliencyParams, entry: Entry, labels: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return the labels (H, W) that saliency and the attention of a CAM support; 255 elsewhere."""
    cam = cam_reader(cams)[entry.name]
    skipped = set(index.numbers(missing_labels(params.missing_labels, entry)))
    images = {
        int(number): attention_image(scores, wraps=params.wrap_negative)
        for number, scores in zip(cam.labels, cam.full(), strict=True)
        if int(number) not in skipped
    }
    attention = {number: image for number, image in images.items() if image is not None}
    return keep_agreed(labels, load_saliency(entry), attention)


def label(maps: Path, params: PseudoParams, classes: int, entry: Entry) -> NDArray[np.uint8]:
    """Return the label (H, W) of one image before saliency. classes: their number, with background."""
    cam = cam_reader(maps)[entry.name]
    if params.crf == "none" or not len(cam.labels):
        return seed(cam.full(), cam.labels, cam.full_background(float(params.threshold))[0])
    picture, cam = crf_input(load_entry(entry), cam, params.crf_picture)
    scores, labels = cam.full(), cam.labels
    background = cam.full_background(float(params.threshold))
    unary = crf.scores_unary(np.concatenate([background, scores]))
    if params.unary == "labels":
        compact = seed(scores, range(len(labels)), background[0])
        unary = crf.labels_unary(compact, len(labels) + 1, crf.counted(params, labels, classes))
    chosen = crf.infer(picture, [unary], params.crf)[0].argmax(0)
    names = np.array([0, *(labels + 1)], np.uint8)
    return np.asarray(names[chosen][: entry.size[0], : entry.size[1]])


def crf_input(image: NDArray[np.uint8], cam: Cam, kind: str) -> tuple[NDArray[np.uint8], Cam]:
    """Return the picture (H, W, 3) that guides the CRF, and the CAM at the picture's size.

    kind: `original`, or `padded`: the image is normalised, padded to whole cells and converted back
    to 8 bits.
    """
    if kind == "original":
        return image, cam
    from wsss.data.normalisation import Normalisation  # noqa: PLC0415  # imports torch
    from wsss.nets.backbone import IMAGENET  # noqa: PLC0415

    height, width = (side + -side % cam.stride for side in image.shape[:2])
    padding = ((0, 0), (0, height - image.shape[0]), (0, width - image.shape[1]))
    mean, std = np.array(IMAGENET)
    # The published code normalises in float64 and converts back in float32: 38 % of values lose 1.
    normalised = ((image / 255 - mean) / std).astype(np.float32).transpose(2, 0, 1)
    picture = Normalisation(*IMAGENET).undo(np.pad(normalised, padding))
    return picture, dataclasses.replace(cam, size=(height, width))
