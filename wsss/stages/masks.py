"""Predict the validation and test images with the segmenter, in shards that are joined afterwards."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wsss import archive, crf
from wsss.data import labelmap
from wsss.data.images import load_image
from wsss.data.index import Entry, load_index
from wsss.localize import inference, part, plan_batches
from wsss.plan import Run
from wsss.progress import progress
from wsss.runtime import Runtime
from wsss.stages import network as stage
from wsss.stages.segmenter import build


def masks(run: Run, shard: tuple[int, int], workers: int = 0) -> None:
    """Write the predicted labels of shard (k, n) of the validation and test images."""
    params, index = run.settings.segmenter.test, load_index(run.index)
    if params.crf != "none":
        crf.check_installed()
    runtime = Runtime.start("auto")
    net = stage.restore(
        lambda: build(run, len(index.classes)), run.path("segmenter.safetensors"), runtime
    )
    batches = part(plan_batches(index.split("val", "test"), params.batch), shard)
    looks = len(params.scales) * (2 if params.mirror else 1)
    results = inference(
        stage.look(net),
        batches,
        params,
        lambda size: size,
        stage.normalisation(net),
        runtime,
        workers,
    )
    with archive.Writer(stage.shard_path(run, "masks", shard)) as writer:
        for entries, logits in progress(results, f"masks {shard[0]}/{shard[1]}", len(batches)):
            for entry, labels in zip(
                entries, decide(entries, logits / looks, params.crf), strict=True
            ):
                writer.add(f"{entry.name}.png", labelmap.encode(labels))


def decide(entries: list[Entry], logits: Tensor, crf_set: str) -> list[NDArray[np.uint8]]:
    """Return the labels (H, W) of images with mean logits (B, classes, H, W)."""
    if crf_set == "none":
        return list(logits.argmax(1).to("cpu").numpy().astype(np.uint8))
    probabilities = logits.softmax(1).cpu().numpy()
    jobs = [(entry.path, own, crf_set) for entry, own in zip(entries, probabilities, strict=True)]
    return list(crf.spread(_refined, jobs, min(len(jobs), len(os.sched_getaffinity(0)))))


def _refined(job: tuple[str, NDArray[np.float32], str]) -> NDArray[np.uint8]:
    path, probabilities, crf_set = job
    labels = crf.refine_scores(load_image(path), probabilities, crf_set).argmax(0)
    return np.asarray(labels, np.uint8)
