"""Predict the validation and test images with the segmenter, in shards that are joined afterwards."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wsss.data import labelmap
from wsss.data.images import load_image
from wsss.data.index import Entry, load_index
from wsss.data.normalisation import Normalisation
from wsss.inference.multiscale import Joining, Resizing, inference, part, plan_batches
from wsss.inference.trained import normalisation, restore, without_gradients
from wsss.machine.runtime import Runtime
from wsss.nets.deeplab import build_deeplab
from wsss.progress import progress
from wsss.refine import crf
from wsss.runs.run import Run, shard_path
from wsss.settings import SegmenterParams, SegmenterTestParams
from wsss.storage import archive


def masks(run: Run, shard: tuple[int, int], workers: int = 0) -> None:
    """Write the predicted labels of shard (k, n) of the validation and test images."""
    settings, index = run.settings.segmenter, load_index(run.index)
    params = settings.test
    if params.crf != "none":
        crf.check_installed()
    runtime = Runtime.start("auto")
    net = restore(
        lambda: build_deeplab(run.settings.segmenter, len(index.classes)),
        run.path("segmenter.safetensors"),
        runtime,
    )
    batches = part(plan_batches(index.split("val", "test"), params.batch), shard)
    normalise, how = normalisation(net), (resizing(params), joining(settings))
    results = inference(
        without_gradients(net),
        batches,
        params,
        lambda size: size,
        normalise,
        runtime,
        workers,
        *how,
    )
    write(
        run,
        "masks",
        shard,
        progress(results, named("masks", shard), len(batches)),
        params,
        normalise,
    )


def named(what: str, shard: tuple[int, int]) -> str:
    """Return what a part of an inference is called while it runs."""
    return f"{what} {shard[0]}/{shard[1]}"


def write(
    run: Run,
    what: str,
    shard: tuple[int, int],
    results: Iterable[tuple[list[Entry], Tensor]],
    params: SegmenterTestParams,
    normalise: Normalisation,
) -> None:
    """Write the labels of batches of images, from their joined looks (B, classes, H, W)."""
    processes = len(os.sched_getaffinity(0))
    with archive.Writer(shard_path(run, what, shard)) as writer:
        for name, labels in decided(results, params, normalise, processes):
            writer.add(f"{name}.png", labelmap.encode(labels))


def resizing(params: SegmenterTestParams) -> Resizing:
    """Return how images are brought to the scales of the test."""
    return Resizing(params.resize, params.size_rounding == "floor")


def joining(params: SegmenterParams) -> Joining:
    """Return how the looks of the test become one."""
    join = params.test.merge
    return Joining(join == "max_softmax", join in ("max", "max_softmax"), params.align_corners)


def decided(
    results: Iterable[tuple[Sequence[Entry], Tensor]],
    params: SegmenterTestParams,
    normalise: Normalisation,
    processes: int = 1,
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the name and the labels (H, W) of images from their joined looks (B, classes, H, W).

    processes: that the CRF is spread over, while the next looks are taken.
    """
    if params.crf == "none":
        for entries, seen in results:
            labels = joined(seen, params).argmax(1).to("cpu").numpy().astype(np.uint8)
            yield from zip((entry.name for entry in entries), labels, strict=True)
        return
    images = (
        crf.candidates(
            entry.name, crf_picture(load_image(entry.path), params.crf_picture, normalise), own
        )
        for entries, seen in results
        for entry, own in zip(entries, probabilities(seen, params), strict=True)
    )
    yield from crf.spread(functools.partial(crf.decide, crf_set=params.crf), images, processes)


def decide(
    entries: Sequence[Entry], seen: Tensor, params: SegmenterTestParams, normalise: Normalisation
) -> list[NDArray[np.uint8]]:
    """Return the labels (H, W) of images from their joined looks (B, classes, H, W)."""
    return [labels for _, labels in decided([(entries, seen)], params, normalise)]


def joined(seen: Tensor, params: SegmenterTestParams) -> Tensor:
    """Return the scores (B, classes, H, W) of looks that were summed or joined."""
    return seen / looks(params) if params.merge == "mean" else seen


def probabilities(seen: Tensor, params: SegmenterTestParams) -> NDArray[np.float32]:
    """Return the probabilities (B, classes, H, W) that the CRF starts from."""
    scores = joined(seen, params)
    if params.merge != "max_softmax":
        scores = scores.softmax(1)
    own: NDArray[np.float32] = scores.cpu().numpy()
    return own


def looks(params: SegmenterTestParams) -> int:
    """Return how often the network looks at an image."""
    return len(params.scales) * (2 if params.mirror else 1)


def crf_picture(image: NDArray[np.uint8], kind: str, normalise: Normalisation) -> NDArray[np.uint8]:
    """Return what the CRF sees of an RGB image (H, W, 3).

    kind: original; bgr; denormalised, scaled back from what the network sees and cut to 8 bits, which
    makes some values one too small; wrapped, what the network sees as 8 bits without the mean added
    back, so that values just below the mean become 255 (deeplab-pytorch).
    """
    if kind == "bgr":
        return image[..., ::-1]
    if kind == "denormalised":
        return normalise.undo(normalise(image))
    if kind == "wrapped":
        seen = np.trunc(normalise(image).transpose(1, 2, 0)).astype(np.int64)
        return (seen % 256).astype(np.uint8)
    return image
