"""Predict the validation and test images with the segmenter, in shards that `gather` puts together."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wsss.data import labelmap
from wsss.data.images import load_entry
from wsss.data.index import Entry, load_index
from wsss.data.normalisation import Normalisation
from wsss.inference.multiscale import inference, plan_batches, shard_batches
from wsss.inference.trained import normalisation, restore, without_gradients
from wsss.inference.views import segmenter_augmentation
from wsss.machine.runtime import Runtime
from wsss.nets.deeplab import build_deeplab
from wsss.progress import progress
from wsss.refine import crf
from wsss.runs.inputs import index_parts
from wsss.runs.run import Run, shard_path
from wsss.settings import SegmenterTestParams
from wsss.storage import archive


def masks(run: Run, shard: tuple[int, int], workers: int = 0) -> None:
    """Write the predicted labels of shard (k, n) of the validation and test images."""
    settings = run.settings.segmenter
    index = load_index(run.index, *index_parts(run, "masks"))
    params, classes = settings.test, len(index.classes)
    if params.crf != "none":
        crf.check_installed()
    runtime, weights = Runtime.start("auto"), run.path("segmenter.safetensors")
    net = restore(lambda: build_deeplab(settings, classes), weights, runtime)
    batches = shard_batches(plan_batches(index.split("val", "test"), params.batch), shard)
    forward, normalise = without_gradients(net), normalisation(net)
    augmentation = segmenter_augmentation(settings)
    results = inference(forward, batches, augmentation, normalise, runtime, workers)
    shown = progress(results, f"masks {shard[0]}/{shard[1]}", len(batches))
    write_masks(shard_path(run, "masks", shard), shown, params, normalise)


def write_masks(
    path: Path,
    results: Iterable[tuple[list[Entry], list[Tensor]]],
    params: SegmenterTestParams,
    normalise: Normalisation,
) -> None:
    """Write the labels of batches of images from what `inference` yields at the images' own size."""
    processes = len(os.sched_getaffinity(0))
    merged = ((entries, logits) for entries, (logits,) in results)
    with archive.Writer(path) as writer:
        for name, labels in predicted_labels(merged, params, normalise, processes):
            writer.add(f"{name}.png", labelmap.encode(labels))


def predicted_labels(
    results: Iterable[tuple[Sequence[Entry], Tensor]],
    params: SegmenterTestParams,
    normalise: Normalisation,
    processes: int = 1,
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the name and the labels (H, W) of each image from merged maps (B, classes, H, W).

    processes: the CRF runs in so many processes, while the network works on the next images.
    """
    if params.crf == "none":
        for entries, merged in results:
            labels = scores(merged, params).argmax(1).to("cpu").numpy().astype(np.uint8)
            yield from zip((entry.name for entry in entries), labels, strict=True)
        return
    images = (
        crf.candidates(
            entry.name, crf_picture(load_entry(entry), params.crf_picture, normalise), unary
        )
        for entries, merged in results
        for entry, unary in zip(entries, probabilities(merged, params), strict=True)
    )
    yield from crf.spread(functools.partial(crf.decide, crf_set=params.crf), images, processes)


def decide(
    entries: Sequence[Entry], merged: Tensor, params: SegmenterTestParams, normalise: Normalisation
) -> list[NDArray[np.uint8]]:
    """Return the labels (H, W) of images from their merged maps (B, classes, H, W)."""
    return [labels for _, labels in predicted_labels([(entries, merged)], params, normalise)]


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
