"""Spread CAMs along learned affinities, in shards that are joined afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from wsss.data.index import load_index
from wsss.data.resize import pad_to_multiple
from wsss.inference.cam_maps import MAX_EPSILON
from wsss.inference.multiscale import ScaledImages, part, plan_batches
from wsss.inference.trained import normalisation, restore, without_gradients
from wsss.machine.runtime import Runtime
from wsss.nets.affinitynet import build_affinity_network
from wsss.nets.irn import IRN, edge_displacement
from wsss.progress import progress
from wsss.refine.affinity import inner_radius, pair_affinities, path_affinities
from wsss.refine.random_walk import cells, random_walk, transition, with_background
from wsss.runs.run import Run, shard_path
from wsss.settings import AffinityParams, WalkParams
from wsss.storage import archive
from wsss.storage.cam_archive import Cam, CamReader, enlarge, pack

if TYPE_CHECKING:
    from wsss.refine.affinity import Pairs

BATCH = 16  # images of one size that go through the affinity network together


@dataclass(frozen=True)
class Neighbours:
    """What an affinity network says of one image.

    pairs: the affinities of its cells. damping: what maps are multiplied by first (h, w), or nothing.
    margin: as in `affinity.windows`.
    """

    pairs: Pairs
    grid: tuple[int, int]
    stride: int
    damping: NDArray[np.float32] | None = None
    margin: int = 0


def walk(run: Run, shard: tuple[int, int]) -> None:
    """Write the walked CAMs of shard (k, n) of the training images."""
    index, params = load_index(run.index), run.settings.walk
    runtime = Runtime.start("auto")
    net = restore(
        lambda: build_affinity_network(run.settings.affinity),
        run.path("affinity.safetensors"),
        runtime,
    )
    stride: Any = net.stride
    cams = CamReader(run.path("cam.zip"))
    batches = part(plan_batches(index.training(), BATCH), shard)
    images = ScaledImages(batches, (1.0,), normalisation(net))
    look: Callable[[Tensor], Tensor] = without_gradients(observer(net, params.pad_px))
    with archive.Writer(shard_path(run, "walk", shard)) as writer:
        shown = progress(
            zip(batches, images, strict=True), f"walk {shard[0]}/{shard[1]}", len(batches)
        )
        for entries, (pictures,) in shown:
            with runtime.autocast():
                seen = look(runtime.send(pictures)).float()
            for entry, own in zip(entries, seen, strict=True):
                near = neighbours(own, stride, run.settings.affinity, params)
                spread = spread_cam(cams[entry.name], near, params, str(runtime.device))
                writer.add(f"{entry.name}.npz", pack(spread))


def observer(net: nn.Module, pad_px: int) -> Callable[[Tensor], Tensor]:
    """Return what turns images (B, 3, H, W) into features or, with IRN, edges (B, C, h, w)."""
    if isinstance(net, IRN):
        return lambda images: edge_displacement(net, images, pad_px)[0]
    stride: Any = net.stride
    return lambda images: net(pad_to_multiple(images, stride))


def neighbours(
    seen: Tensor, stride: int, affinity: AffinityParams, params: WalkParams
) -> Neighbours:
    """Return the affinities of one image from its features or edges (C, h, w)."""
    height, width = seen.shape[1:]
    radius = params.radius or affinity.radius
    if affinity.kind == "irn":  # its published margin lies in the padding, so all pairs are met
        pairs = path_affinities(seen, radius)
        damping = 1 - seen[0].cpu().numpy() if params.damp else None
        return Neighbours(pairs, (height, width), stride, damping)
    margin = 0
    if affinity.margin:
        radius = inner_radius(height, width, radius)
        margin = radius - 1
    pairs = pair_affinities(seen[None], radius, margin)
    return Neighbours(pairs, (height, width), stride, None, margin)


def spread_cam(cam: Cam, near: Neighbours, params: WalkParams, device: str = "cpu") -> Cam:
    """Return a CAM after the random walk on the grid of `near`."""
    if not len(cam.labels):
        return cam
    maps = on_grid(cam, near.stride, params)
    if near.damping is not None:
        maps = maps * near.damping
    pairs: Iterator[Any] = ((at, values[0].cpu().numpy()) for at, values in near.pairs)
    step = transition(pairs, *near.grid, params.beta, near.margin)
    walked = random_walk(maps, step, 2**params.log2_steps, device)
    background, walked = walked[: len(maps) - len(cam.labels)], walked[-len(cam.labels) :]
    if params.normalise == "class":
        walked = walked / (walked.max((1, 2), keepdims=True) + MAX_EPSILON)
    elif params.normalise == "image":
        walked = walked / (enlarge(walked, cam.size, near.stride).max() or 1.0)
    kept = background.astype(np.float16) if len(background) else None
    return Cam(cam.labels, walked.astype(np.float16), cam.size, near.stride, background=kept)


def on_grid(cam: Cam, stride: int, params: WalkParams) -> NDArray[np.float32]:
    """Return the maps (K, h, w) that walk, a background in front of them if there is one.

    They are those of the store where the strides agree, and else means over cells (PSA).
    """
    if params.background != "none":
        return cells(
            with_background(cam.full(), params.background, params.background_value), stride
        )
    return cam.cam.astype(np.float32) if cam.stride == stride else cells(cam.full(), stride)
