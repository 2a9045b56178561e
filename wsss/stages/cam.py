"""CAM inference on the training images, in shards that are joined afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from wsss.data.index import Entry, Index, load_index
from wsss.data.normalisation import Normalisation
from wsss.errors import ConfigError
from wsss.inference.cam_maps import cam_sizes, joined_cam
from wsss.inference.multiscale import Joining, Resizing, inference_at, part, plan_batches
from wsss.inference.trained import normalisation, restore, without_gradients
from wsss.machine.runtime import Runtime
from wsss.methods.base import Method, build_method
from wsss.nets.backbone import Network
from wsss.progress import progress
from wsss.runs.run import Run, shard_path
from wsss.settings import CamParams
from wsss.storage import archive
from wsss.storage.cam_archive import Cam, pack


def cam(run: Run, shard: tuple[int, int], workers: int = 0, network: str | None = None) -> None:
    """Write the CAMs of shard (k, n) of the training images. network: the cam_network, if not given.

    Raises:
        ConfigError: the run has no CAMs of this network.
    """
    name = network or str(run.spec.cam_network)
    target = next((stage for stage, own in run.cams.items() if own == name), None)
    if target is None:
        known = ", ".join(run.cams.values())
        raise ConfigError(f"{run} has no CAMs of a network {name!r}; it has them of {known}.")
    index, params = load_index(run.index), run.settings.cam
    runtime = Runtime.start("auto")
    method = build_method(run, len(index.classes))
    net = restore(lambda: method.build(name), run.path(f"{name}.safetensors"), runtime)
    batches = part(plan_batches(index.training(), params.batch), shard)
    look, normalise = looking(method, net, params), normalisation(net)
    found = cams(look, batches, index, params, normalise, runtime, workers)
    with archive.Writer(shard_path(run, target, shard)) as writer:
        for entries, own in progress(found, f"{target} {shard[0]}/{shard[1]}", len(batches)):
            for entry, cam in zip(entries, own, strict=True):
                writer.add(f"{entry.name}.npz", pack(cam))


def looking(method: Method, net: Network, params: CamParams) -> Callable[[Tensor], Tensor]:
    """Return what a method sees, negative scores cut or not."""
    see = method.cam if params.clip == "first" else method.signed_cam
    return without_gradients(lambda images: see(net, images))


def resizing(params: CamParams) -> Resizing:
    """Return how images are brought to the scales of the CAMs."""
    floor = params.size_rounding == "floor"
    return Resizing(
        params.resize,
        floor,
        params.size_multiple,
        params.square_px,
        again=params.at_square or params.long_side_px is not None,
        long_side_px=params.long_side_px,
        down=params.size_multiple_rounding == "down",
    )


def joining(params: CamParams) -> Joining:
    """Return how looks become a CAM."""
    return Joining(mirror_largest=params.mirror_merge == "max", positive=params.clip == "last")


def cams(
    look: Callable[[Tensor], Tensor],
    batches: Sequence[list[Entry]],
    index: Index,
    params: CamParams,
    normalise: Normalisation,
    runtime: Runtime,
    workers: int = 0,
) -> Iterator[tuple[list[Entry], list[Cam]]]:
    """Yield each batch of images with their CAMs."""
    sizes, how = cam_sizes(params), (resizing(params), joining(params))
    results = inference_at(look, batches, params, sizes, normalise, runtime, workers, *how)
    for entries, maps in results:
        yield (
            entries,
            [
                joined_cam(own, index.numbers(entry.labels), entry.size, params)
                for entry, *own in zip(entries, *maps, strict=True)
            ],
        )
