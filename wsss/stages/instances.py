"""Instance labels of the training images from IRN's displacements, in shards."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsss.data.index import load_index
from wsss.errors import ConfigError
from wsss.inference.multiscale import ImageViews, plan_batches, shard_batches
from wsss.inference.trained import normalisation, restore, without_gradients
from wsss.machine.runtime import Runtime
from wsss.nets.irn import IRN, edge_displacement
from wsss.progress import progress
from wsss.refine.affinity import path_affinities
from wsss.refine.instances import Instance, clusters, detections, per_object
from wsss.runs.calibration import pseudo_params
from wsss.runs.inputs import index_parts
from wsss.runs.run import Run
from wsss.runs.sources import verify_sources
from wsss.stages.gather import WHOLE, Shard, shard_writer
from wsss.stages.walk import BATCH, Neighbours, on_grid, walk_maps
from wsss.storage.archive import pack_arrays
from wsss.storage.cam_archive import Cam, CamReader, enlarge


def instances(run: Run, shard: Shard | None) -> None:
    """Write the instances of shard (k, n) of the training images; None: of all, with the record.

    A member `<image name>.npz` holds `labels` int16 (N,), class numbers from 0; `scores` float32 (N,)
    in [0, 1]; `masks` uint8, the bits of (N, H, W); `size` int32 (H, W).
    """
    index, params = load_index(run.index, *index_parts(run, "instances")), run.settings.walk
    affinity = run.settings.affinity
    if affinity.kind != "irn" or not affinity.irn.displacement_channels:
        raise ConfigError(
            f"{run} has no displacements, so there are no instances. Set affinity.kind: irn and "
            "affinity.irn.displacement_channels above 0."
        )
    verify_sources(run, "instances", checksums=shard is None)
    runtime = Runtime.start("auto")
    net = restore(
        lambda: IRN(affinity.backbone, affinity.stride, affinity.irn),
        run.path("affinity.safetensors"),
        runtime,
    )
    cams = CamReader(run.path("cam.zip"))
    number, count = shard or WHOLE
    batches = shard_batches(plan_batches(index.training(), BATCH), (number, count))
    images = ImageViews(batches, normalisation(net))
    forward = without_gradients(
        lambda pictures: edges_and_displacements(net, pictures, params.pad_px)
    )
    with shard_writer(run, "instances", shard) as writer:
        shown = zip(batches, images, strict=True)
        for entries, (pictures,) in progress(shown, f"instances {number}/{count}", len(batches)):
            with runtime.autocast():
                outputs = forward(runtime.send(pictures)).float()
            for entry, output in zip(entries, outputs, strict=True):
                objects = detect(run, cams[entry.name], output, net.stride, str(runtime.device))
                writer.add(f"{entry.name}.npz", pack_instances(objects, entry.size))


def edges_and_displacements(net: IRN, images: Tensor, pad_px: int) -> Tensor:
    """Return edges and displacements (B, 3, h, w) of images (B, 3, H, W)."""
    edges, field = edge_displacement(net, images, pad_px)
    if field is None:
        raise ConfigError("the network has no displacements")
    return torch.cat([edges, field], 1)


def detect(run: Run, cam: Cam, output: Tensor, stride: int, device: str) -> list[Instance]:
    """Return the instances of one image from its CAM and its edges and displacements (3, h, w)."""
    if not len(cam.labels):
        return []
    params, threshold = run.settings.walk, float(pseudo_params(run).threshold)
    edges, field = output[:1], output[1:].cpu().numpy()
    objects = clusters(field)
    maps = on_grid(cam, stride, params)[-len(cam.labels) :] * (1 - edges[0].cpu().numpy())
    radius = params.radius or run.settings.affinity.radius
    near = Neighbours([*path_affinities(edges, radius)], objects.shape, stride)
    (walked,) = walk_maps([per_object(maps, objects)], [0], near, params, device)
    scores = enlarge(walked, cam.size, stride)
    scores /= scores.max() or 1.0
    return detections(scores, cam.labels.tolist(), int(objects.max()) + 1, threshold)


def pack_instances(objects: list[Instance], size: tuple[int, int]) -> bytes:
    """Return the instances of an image of `size` (H, W) as the bytes of a member of the archive."""
    masks: NDArray[np.bool_] = np.zeros((len(objects), *size), bool)
    for mask, instance in zip(masks, objects, strict=True):
        mask[:] = instance.mask
    return pack_arrays(
        {
            "labels": np.array([instance.label for instance in objects], np.int16),
            "scores": np.array([instance.score for instance in objects], np.float32),
            "masks": np.packbits(masks),
            "size": np.array(size, np.int32),
        }
    )
