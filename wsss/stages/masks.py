"""Predict the validation and test images with the segmenter, in shards, or all at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsss.data import labelmap
from wsss.data.images import load_entry
from wsss.data.index import Entry, load_index
from wsss.data.normalisation import Normalisation
from wsss.inference.multiscale import inference, plan_batches, shard_batches
from wsss.inference.trained import normalisation, restore, without_gradients
from wsss.inference.views import segmenter_augmentation
from wsss.machine.accelerator import crf_device
from wsss.machine.runtime import Runtime, fetch
from wsss.machine.threads import in_threads, one_ahead
from wsss.nets.deeplab import build_deeplab
from wsss.progress import progress
from wsss.refine import crf
from wsss.runs.inputs import index_parts
from wsss.runs.run import Run
from wsss.runs.sources import verify_sources
from wsss.settings import SegmenterTestParams
from wsss.stages.gather import WHOLE, Shard, shard_writer
from wsss.storage import archive


def masks(run: Run, shard: Shard | None, workers: int = 0) -> None:
    """Write the predicted labels of shard (k, n) of the validation and test images.

    shard: None writes all of them, with the record.
    """
    verify_sources(run, "masks", checksums=shard is None)
    settings, index = run.settings.segmenter, load_index(run.index, *index_parts(run, "masks"))
    params, classes = settings.test, len(index.classes)
    device = crf_device(run.settings.crf.device)
    crf.check_installed(params.crf, device)
    runtime, weights = Runtime.start("auto"), run.path("segmenter.safetensors")
    net = restore(lambda: build_deeplab(settings, classes), weights, runtime)
    number, count = shard or WHOLE
    augmentation, entries = segmenter_augmentation(settings), index.split("val", "test")
    plan = plan_batches(entries, params.batch, augmentation, params.batch_megapixels)
    batches = shard_batches(plan, (number, count))
    forward, normalise = without_gradients(net), normalisation(net)
    results = inference(forward, batches, augmentation, normalise, runtime, workers)
    shown = progress(results, f"masks {number}/{count}", len(batches))
    with shard_writer(run, "masks", shard) as writer:
        write_masks(writer, shown, params, normalise, device)


def write_masks(
    writer: archive.Writer,
    results: Iterable[tuple[list[Entry], list[Tensor]]],
    params: SegmenterTestParams,
    normalise: Normalisation,
    device: str | None = None,
) -> None:
    """Write the labels of batches of images from what `inference` yields at the images' own size.

    With a CRF the labels before it are written too, so that both can be scored. device: of the CRF, as
    in `crf.refined`.
    """
    processes = len(os.sched_getaffinity(0))
    merged = ((entries, logits) for entries, (logits,) in results)
    images = predicted_labels(merged, params, normalise, processes, device)
    for image, content in in_threads(_encoded, images):
        if params.crf != "none":
            writer.add(archive.before_crf(image.name), labelmap.encode(image.before[0]))
        writer.add(f"{image.name}.png", content)


def _encoded(image: crf.Refined) -> tuple[crf.Refined, bytes]:
    """Return an image with its labels as the bytes of a PNG."""
    return image, labelmap.encode(image.after[0])


def predicted_labels(
    results: Iterable[tuple[Sequence[Entry], Tensor]],
    params: SegmenterTestParams,
    normalise: Normalisation,
    processes: int = 1,
    device: str | None = None,
) -> Iterator[crf.Refined]:
    """Yield the labels (H, W) of each image from merged maps (B, classes, H, W).

    processes: without a device the CRF runs in so many processes, while the network works on the next
    images. device: of the CRF, as in `crf.refined`.
    """
    if params.crf == "none":
        copies = (
            (entries, fetch(scores(merged, params).argmax(1).to(torch.uint8)))
            for entries, merged in results
        )
        for entries, wait in one_ahead(copies):
            for entry, labels in zip(entries, wait().numpy(), strict=True):
                yield crf.Refined(entry.name, [labels], [labels])
        return

    def tasks() -> Iterator[crf.CrfTask]:
        for entries, merged in results:
            for entry, unary in zip(entries, probabilities(merged, params), strict=True):
                picture = crf_picture(load_entry(entry), params.crf_picture, normalise)
                yield crf.score_task(entry.name, picture, unary)

    preparing = processes if device is None else 1  # a task is prepared already
    yield from crf.refined(crf.unchanged, tasks(), params.crf, preparing, device)


def decide(
    entries: Sequence[Entry],
    merged: Tensor,
    params: SegmenterTestParams,
    normalise: Normalisation,
    device: str | None = None,
) -> list[NDArray[np.uint8]]:
    """Return the labels (H, W) of images from their merged maps (B, classes, H, W).

    device: of the CRF, as in `crf.refined`.
    """
    images = predicted_labels([(entries, merged)], params, normalise, device=device)
    return [image.after[0] for image in images]


def scores(merged: Tensor, params: SegmenterTestParams) -> Tensor:
    """Return merged maps (B, classes, H, W) as scores: sums are divided if the mean is wanted."""
    return merged / view_count(params) if params.merge == "mean" else merged


def probabilities(merged: Tensor, params: SegmenterTestParams) -> NDArray[np.float32]:
    """Return the probabilities (B, classes, H, W) in [0, 1] that the CRF starts from."""
    values = scores(merged, params)
    if params.merge != "max_softmax":
        values = values.softmax(1)
    return np.asarray(values.cpu().numpy())


def view_count(params: SegmenterTestParams) -> int:
    """Return the number of views of an image."""
    return len(params.scales) * (2 if params.mirror else 1)


def crf_picture(image: NDArray[np.uint8], kind: str, normalise: Normalisation) -> NDArray[np.uint8]:
    """Return the picture (H, W, 3) that guides the CRF, from an RGB image (H, W, 3).

    kind: `original`; `bgr` swaps the channels; `denormalised` converts the network's input back to
    8 bits, which makes some values one too small; `wrapped` converts it without adding the mean, so
    that values just below the mean become 255 (deeplab-pytorch).
    """
    if kind == "bgr":
        return image[..., ::-1]
    if kind == "denormalised":
        return normalise.undo(normalise(image))
    if kind == "wrapped":
        centred = np.trunc(normalise(image).transpose(1, 2, 0)).astype(np.int64)
        return (centred % 256).astype(np.uint8)
    return image
