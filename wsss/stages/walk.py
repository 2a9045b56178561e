"""Spread CAMs along affinities, in shards that `gather` puts together, or at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
from wsss.nets.frozen import FrozenNet
from wsss.nets.irn import IRN, edge_displacement
from wsss.progress import progress
from wsss.refine.affinity import (
    gaussian_affinities,
    inner_radius,
    pair_affinities,
    path_affinities,
)
from wsss.refine.random_walk import (
    cells,
    random_walk,
    random_walks,
    transition,
    transition_rows,
    with_background,
)
from wsss.runs.inputs import index_parts
from wsss.runs.run import Run
from wsss.runs.sources import verify_sources
from wsss.settings import AffinityParams, WalkParams
from wsss.stages.gather import WHOLE, Shard, shard_writer
from wsss.storage.cam_archive import Cam, CamReader, enlarge, pack

BATCH = 16  # images of one size that go through the affinity network together


@dataclass(frozen=True)
class Neighbours:
    """The affinities of the cells of images of one size.

    pairs: offsets with the affinities (images, rows, columns) of all pairs of cells at them. grid: rows
    and columns of cells. stride: pixels per cell. damping: (images, h, w), factor on the maps before the
    walk; None for no factor. margin: as in `affinity.windows`.
    """

    pairs: Sequence[tuple[tuple[int, int], Tensor]]
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
            near = neighbours_of_images(outputs, net.stride, run.settings.affinity, params)
            batch = [cams[entry.name] for entry in entries]
            spread = spread_cams(batch, near, params, str(runtime.device))
            for entry, cam in zip(entries, spread, strict=True):
                writer.add(f"{entry.name}.npz", pack(cam))


def affinity_forward(net: AffinityNet | IRN | FrozenNet, pad_px: int) -> Forward:
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
    return neighbours_of_images(output[None], stride, affinity, params)


def neighbours_of_images(
    outputs: Tensor, stride: int, affinity: AffinityParams, params: WalkParams
) -> Neighbours:
    """Return the affinities of images from their features or edges (images, C, h, w)."""
    height, width = outputs.shape[2:]
    radius = params.radius or affinity.radius
    if affinity.kind == "irn":  # IRNet pads the image by this margin, so no pair is left out here
        edges = outputs[:, 0]
        damping = 1 - edges.cpu().numpy() if params.damp else None
        return Neighbours([*path_affinities(edges, radius)], (height, width), stride, damping)
    margin = 0
    if affinity.margin:
        radius = inner_radius(height, width, radius)
        margin = radius - 1
    if affinity.kind == "frozen":
        pairs = [*gaussian_affinities(outputs, radius, margin)]
    else:
        pairs = [*pair_affinities(outputs, radius, margin)]
    return Neighbours(pairs, (height, width), stride, None, margin)


def spread_cam(cam: Cam, near: Neighbours, params: WalkParams) -> Cam:
    """Return a CAM after the random walk along the affinities `near` of one image, at their stride."""
    return spread_cams([cam], near, params)[0]


def spread_cams(
    cams: Sequence[Cam], near: Neighbours, params: WalkParams, device: str = "cpu"
) -> list[Cam]:
    """Return CAMs after the random walk along the affinities `near` of their images, at their stride.

    device: `cpu`, where the images walk one after the other, or a torch device, where they walk together.
    """
    images = [number for number, cam in enumerate(cams) if len(cam.labels)]
    maps = [on_grid(cams[number], near.stride, params) for number in images]
    if near.damping is not None:
        maps = [near.damping[number] * part for number, part in zip(images, maps, strict=True)]
    walked = walk_maps(maps, images, near, params, device)
    spread = list(cams)
    for number, part in zip(images, walked, strict=True):
        spread[number] = _stored(cams[number], part, near.stride, params)
    return spread


def walk_maps(
    maps: Sequence[NDArray[np.float32]],
    images: Sequence[int],
    near: Neighbours,
    params: WalkParams,
    device: str,
) -> list[NDArray[np.float64]]:
    """Return class maps (K, h, w) of images after the random walk. images: their numbers in `near`."""
    steps = 2**params.log2_steps
    if device != "cpu" and maps:
        pairs = [(offset, values[list(images)].to(device)) for offset, values in near.pairs]
        rows = transition_rows(pairs, *near.grid, params.beta, near.margin)
        return random_walks(maps, rows, steps)
    walked = []
    for number, part in zip(images, maps, strict=True):
        one_image = ((offset, values[number]) for offset, values in near.pairs)
        step = transition(one_image, *near.grid, params.beta, near.margin)
        walked.append(random_walk(part, step, steps))
    return walked


def _stored(cam: Cam, walked: NDArray[np.float64], stride: int, params: WalkParams) -> Cam:
    """Return the CAM of walked maps, after a background if it has one, (maps, h, w)."""
    count = len(cam.labels)
    background, walked = walked[:-count], walked[-count:]
    if params.normalise == "class":
        walked = walked / (walked.max((1, 2), keepdims=True) + MAX_EPSILON)
    elif params.normalise == "image":
        walked = walked / (enlarge(walked, cam.size, stride).max() or 1.0)
    stored = background.astype(np.float16) if len(background) else None
    return Cam(cam.labels, walked.astype(np.float16), cam.size, stride, background=stored)


def on_grid(cam: Cam, stride: int, params: WalkParams) -> NDArray[np.float32]:
    """Return the maps (K, h, w) that the walk starts from, after a background if it has one.

    The stored maps are used where the strides agree; else full-size maps are averaged over cells (PSA).
    """
    if params.background != "none":
        return cells(
            with_background(cam.full(), params.background, params.background_value), stride
        )
    return cam.cam.astype(np.float32) if cam.stride == stride else cells(cam.full(), stride)
