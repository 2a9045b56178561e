"""Spread CAMs along learned affinities, in shards that `gather` puts together, or at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wsss.data.index import load_index
from wsss.data.resize import pad_to_multiple
from wsss.inference.cam_maps import MAX_EPSILON
from wsss.inference.multiscale import Forward, ImageViews, plan_batches, shard_batches
from wsss.inference.trained import normalisation, restore, without_gradients
from wsss.machine.runtime import Runtime
from wsss.nets.affinitynet import AffinityNet, build_affinity_network
from wsss.nets.irn import IRN, edge_displacement
from wsss.progress import progress
from wsss.refine.affinity import inner_radius, pair_affinities, path_affinities
from wsss.refine.random_walk import cells, random_walk, transition, with_background
from wsss.runs.inputs import index_parts
from wsss.runs.run import Run
from wsss.runs.sources import verify_sources
from wsss.settings import AffinityParams, WalkParams
from wsss.stages.gather import WHOLE, Shard, shard_writer
from wsss.storage.cam_archive import Cam, CamReader, enlarge, pack

if TYPE_CHECKING:
    from wsss.refine.affinity import Pairs

BATCH = 16  # images of one size that go through the affinity network together


@dataclass(frozen=True)
class Neighbours:
    """The affinities of the cells of one image.

    pairs: offsets with the affinities of all pairs of cells at them. grid: rows and columns of cells.
    stride: pixels per cell. damping: (h, w), factor on the maps before the walk; None for no factor.
    margin: as in `affinity.windows`.
    """

    pairs: Pairs
    grid: tuple[int, int]
    stride: int
    damping: NDArray[np.float32] | None = None
    margin: int = 0


def walk(run: Run, shard: Shard | None) -> None:
    """Write the walked CAMs of shard (k, n) of the training images; None: of all, with the record."""
    verify_sources(run, "walk", checksums=shard is None)
    index, params = load_index(run.index, *index_parts(run, "walk")), run.settings.walk
    runtime = Runtime.start("auto")
    net = restore(
        lambda: build_affinity_network(run.settings.affinity),
        run.path("affinity.safetensors"),
        runtime,
    )
    cams = CamReader(run.path("cam.zip"))
    number, count = shard or WHOLE
    batches = shard_batches(plan_batches(index.training(), BATCH), (number, count))
    images = ImageViews(batches, normalisation(net))
    forward = without_gradients(affinity_forward(net, params.pad_px))
    with shard_writer(run, "walk", shard) as writer:
        shown = progress(zip(batches, images, strict=True), f"walk {number}/{count}", len(batches))
        for entries, (pictures,) in shown:
            with runtime.autocast():
                outputs = forward(runtime.send(pictures)).float()
            for entry, output in zip(entries, outputs, strict=True):
                near = neighbours(output, net.stride, run.settings.affinity, params)
                spread = spread_cam(cams[entry.name], near, params, str(runtime.device))
                writer.add(f"{entry.name}.npz", pack(spread))


def affinity_forward(net: AffinityNet | IRN, pad_px: int) -> Forward:
    """Return the forward pass from images (B, 3, H, W) to features or, with IRN, edges (B, C, h, w).

    pad_px: side of the square that IRN pads the images to.
    """
    if isinstance(net, IRN):
        return lambda images: edge_displacement(net, images, pad_px)[0]
    return lambda images: net(pad_to_multiple(images, net.stride))


def neighbours(
    output: Tensor, stride: int, affinity: AffinityParams, params: WalkParams
) -> Neighbours:
    """Return the affinities of one image from its features or edges (C, h, w)."""
    height, width = output.shape[1:]
    radius = params.radius or affinity.radius
    if affinity.kind == "irn":  # IRNet pads the image by this margin, so no pair is left out here
        pairs = path_affinities(output, radius)
        damping = 1 - output[0].cpu().numpy() if params.damp else None
        return Neighbours(pairs, (height, width), stride, damping)
    margin = 0
    if affinity.margin:
        radius = inner_radius(height, width, radius)
        margin = radius - 1
    pairs = pair_affinities(output[None], radius, margin)
    return Neighbours(pairs, (height, width), stride, None, margin)


def spread_cam(cam: Cam, near: Neighbours, params: WalkParams, device: str = "cpu") -> Cam:
    """Return a CAM after the random walk along the affinities `near`, at their stride.

    device: the device of the walk's matrix product.
    """
    if not len(cam.labels):
        return cam
    maps = on_grid(cam, near.stride, params)
    if near.damping is not None:
        maps = maps * near.damping
    pairs = ((at, values[0].cpu().numpy()) for at, values in near.pairs)
    step = transition(pairs, *near.grid, params.beta, near.margin)
    walked = random_walk(maps, step, 2**params.log2_steps, device)
    background, walked = walked[: len(maps) - len(cam.labels)], walked[-len(cam.labels) :]
    if params.normalise == "class":
        walked = walked / (walked.max((1, 2), keepdims=True) + MAX_EPSILON)
    elif params.normalise == "image":
        walked = walked / (enlarge(walked, cam.size, near.stride).max() or 1.0)
    stored = background.astype(np.float16) if len(background) else None
    return Cam(cam.labels, walked.astype(np.float16), cam.size, near.stride, background=stored)


def on_grid(cam: Cam, stride: int, params: WalkParams) -> NDArray[np.float32]:
    """Return the maps (K, h, w) that the walk starts from, after a background if it has one.

    The stored maps are used where the strides agree; else full-size maps are averaged over cells (PSA).
    """
    if params.background != "none":
        return cells(
            with_background(cam.full(), params.background, params.background_value), stride
        )
    return cam.cam.astype(np.float32) if cam.stride == stride else cells(cam.full(), stride)
