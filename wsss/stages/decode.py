"""Predict the validation and test images with the decoder of a method that learns masks by itself."""

from __future__ import annotations

from wsss.data.index import load_index
from wsss.errors import ConfigError
from wsss.inference.multiscale import Joining, Resizing, inference, part, plan_batches
from wsss.inference.trained import normalisation, restore, without_gradients
from wsss.machine.runtime import Runtime
from wsss.methods.base import build_method
from wsss.progress import progress
from wsss.refine import crf
from wsss.runs.run import Run
from wsss.settings import DecodeParams
from wsss.stages.masks import named, write


def decode(run: Run, shard: tuple[int, int], workers: int = 0) -> None:
    """Write the predicted labels of shard (k, n) of the validation and test images."""
    if not run.spec.decodes:
        raise ConfigError(f"{run.method} has no decoder of its own: use `wsss masks`.")
    index, params = load_index(run.index), run.settings.decode
    if params.crf != "none":
        crf.check_installed()
    runtime, name = Runtime.start("auto"), str(run.spec.cam_network)
    method = build_method(run, len(index.classes))
    net = restore(lambda: method.build(name), run.path(f"{name}.safetensors"), runtime)
    batches = part(plan_batches(index.split("val", "test"), params.batch), shard)
    look = without_gradients(lambda images: method.decode(net, images))
    normalise, how = normalisation(net), (resizing(params), joining(params))
    results = inference(look, batches, params, lambda size: size, normalise, runtime, workers, *how)
    shown = progress(results, named("decoder", shard), len(batches))
    write(run, "decode", shard, shown, params, normalise)


def resizing(params: DecodeParams) -> Resizing:
    """Return how images are brought to the scales."""
    floor = params.size_rounding == "floor"
    return Resizing(params.resize, floor, 1, params.square_px, params.square_first)


def joining(params: DecodeParams) -> Joining:
    """Return how the looks become one."""
    mirror = None if params.mirror_merge == "merge" else params.mirror_merge == "max"
    largest = params.merge in ("max", "max_softmax")
    return Joining(params.merge == "max_softmax", largest, mirror_largest=mirror)
