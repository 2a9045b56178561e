"""Spread CAMs along learned affinities, in shards that are joined afterwards."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsss import archive
from wsss.affinity import pair_affinities
from wsss.camstore import Cam, CamReader, pack
from wsss.data.index import load_index
from wsss.localize import EPSILON, ScaledImages, part, plan_batches
from wsss.plan import Run
from wsss.progress import progress
from wsss.runtime import Runtime
from wsss.schema import WalkParams
from wsss.stages import network as stage
from wsss.stages.affinity import build
from wsss.walk import random_walk, transition

BATCH = 16  # images of one size that go through AffinityNet together


def walk(run: Run, shard: tuple[int, int]) -> None:
    """Write the walked CAMs of shard (k, n) of the training images."""
    index, settings = load_index(run.index), run.settings
    runtime = Runtime.start("auto")
    net = stage.restore(lambda: build(run), run.path("affinity.safetensors"), runtime)
    cams = CamReader(run.path("cam.zip"))
    batches = part(plan_batches(index.training(), BATCH), shard)
    images = ScaledImages(batches, (1.0,), stage.normalisation(net))
    look: Callable[[Tensor], Tensor] = stage.look(net)
    with archive.Writer(stage.shard_path(run, "walk", shard)) as writer:
        shown = progress(
            zip(batches, images, strict=True), f"walk {shard[0]}/{shard[1]}", len(batches)
        )
        for entries, (pictures,) in shown:
            with runtime.autocast():
                features = look(runtime.send(pictures)).float()
            for entry, own in zip(entries, features, strict=True):
                spread = spread_cam(
                    cams[entry.name],
                    own,
                    settings.affinity.radius,
                    settings.affinity.stride,
                    settings.walk,
                )
                writer.add(f"{entry.name}.npz", pack(spread))


def spread_cam(cam: Cam, features: Tensor, radius: int, stride: int, params: WalkParams) -> Cam:
    """Return a CAM after the random walk on the grid of `features` (C, h, w).

    stride: pixels per cell of `features`. Each class is divided by its largest score, as before.
    """
    if not len(cam.labels):
        return cam
    height, width = features.shape[1:]
    source = torch.from_numpy(cam.cam.astype(np.float32))[None]
    maps = F.interpolate(source, (height, width), mode="bilinear", align_corners=False)[0]
    pairs = (
        (at, values[0].cpu().numpy()) for at, values in pair_affinities(features[None], radius)
    )
    step = transition(pairs, height, width, params.beta)
    walked = random_walk(maps.numpy(), step, 2**params.log2_steps)
    walked /= walked.max((1, 2), keepdims=True) + EPSILON
    return Cam(cam.labels, walked.astype(np.float16), cam.size, stride)
