"""CAM inference on the training images, in shards that `gather` puts together, or at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from wsss.data.index import Entry, Index, load_index
from wsss.data.normalisation import Normalisation
from wsss.data.workers import label_vector
from wsss.errors import ConfigError
from wsss.inference.cam_maps import merged_cams
from wsss.inference.multiscale import (
    Forward,
    LabelledForward,
    inference,
    plan_batches,
    shard_batches,
)
from wsss.inference.trained import normalisation, restore, without_gradients
from wsss.inference.views import cam_augmentation
from wsss.machine.runtime import Runtime
from wsss.machine.threads import in_threads
from wsss.methods.base import Method, build_method
from wsss.nets.backbone import Network
from wsss.progress import progress
from wsss.runs.inputs import index_parts
from wsss.runs.run import Run
from wsss.runs.sources import verify_sources
from wsss.settings import CamParams
from wsss.stages.gather import WHOLE, Shard, shard_writer
from wsss.storage.cam_archive import Cam, pack

Pending = tuple[list[Entry], Callable[[], list[Cam]]]  # a batch of images; waits for their CAMs


def cam(run: Run, shard: Shard | None, workers: int = 0, network: str | None = None) -> None:
    """Write the CAMs of shard (k, n) of the training images; None: of all, with the record.

    network: the network of the chain whose CAMs are written, by default the run's CAM network.

    Raises:
        ConfigError: the run has no CAMs of this network.
    """
    name = network or str(run.spec.cam_network)
    artifact = next((artifact for artifact, source in run.cams.items() if source == name), None)
    if artifact is None:
        networks = ", ".join(run.cams.values())
        raise ConfigError(f"{run} has no CAMs of a network {name!r}; it has them of {networks}.")
    verify_sources(run, artifact, checksums=shard is None)
    index, params = load_index(run.index, *index_parts(run, artifact)), run.settings.cam
    runtime = Runtime.start("auto")
    method = build_method(run, len(index.classes))
    net = restore(lambda: method.build(name), run.path(f"{name}.safetensors"), runtime)
    number, count = shard or WHOLE
    augmentation = cam_augmentation(params)
    plan = plan_batches(index.training(), params.batch, augmentation, params.batch_megapixels)
    batches = shard_batches(plan, (number, count))
    forward = labelled_cam_forward(method, net, params, index)
    results = pending_cams(forward, batches, index, params, normalisation(net), runtime, workers)
    shown = progress(results, f"{artifact} {number}/{count}", len(batches))
    with shard_writer(run, artifact, shard) as writer:
        for members in in_threads(_packed, shown):
            for name, content in members:
                writer.add(name, content)


def cam_forward(
    method: Method, net: Network, params: CamParams, present: Tensor | None = None
) -> Forward:
    """Return the forward pass from images to class maps, signed if they are clipped after merging.

    present: labels of the images (B, classes), 0 or 1, if they are known; mirrored images come behind the
    others, in the same order.
    """
    is_signed = params.clip != "first"
    if present is None:
        class_maps = method.signed_cam if is_signed else method.cam
        return without_gradients(lambda images: class_maps(net, images))
    labels, labelled_maps = present, method.signed_cam_of if is_signed else method.cam_of

    def forward(images: Tensor) -> Tensor:
        repeated = labels.to(images.device).repeat(len(images) // len(labels), 1)
        return labelled_maps(net, images, repeated)

    return without_gradients(forward)


def labelled_cam_forward(
    method: Method, net: Network, params: CamParams, index: Index
) -> LabelledForward:
    """Return the forward pass that may use the labels of the images in `index`."""

    def of(entries: Sequence[Entry]) -> Forward:
        present = torch.stack([label_vector(index, entry) for entry in entries])
        return cam_forward(method, net, params, present)

    return LabelledForward(of)


def pending_cams(
    forward: Forward | LabelledForward,
    batches: Sequence[list[Entry]],
    index: Index,
    params: CamParams,
    normalise: Normalisation,
    runtime: Runtime,
    workers: int = 0,
) -> Iterator[Pending]:
    """Yield each batch of images with a function that waits for their CAMs."""
    augmentation = cam_augmentation(params)
    for entries, maps in inference(forward, batches, augmentation, normalise, runtime, workers):
        labels = [index.numbers(entry.labels) for entry in entries]
        yield entries, merged_cams(maps, labels, entries[0].size, params)


def _packed(pending: Pending) -> list[tuple[str, bytes]]:
    """Return the names and the bytes of the archive's members of a batch of images."""
    entries, wait = pending
    return [(f"{entry.name}.npz", pack(cam)) for entry, cam in zip(entries, wait(), strict=True)]
