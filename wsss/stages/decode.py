"""Predict the validation and test images with a method's own decoder, in shards."""

from __future__ import annotations

from wsss.data.index import load_index
from wsss.errors import ConfigError
from wsss.inference.multiscale import inference, plan_batches, shard_batches
from wsss.inference.trained import normalisation, restore, without_gradients
from wsss.inference.views import decode_augmentation
from wsss.machine.runtime import Runtime
from wsss.methods.base import build_method
from wsss.progress import progress
from wsss.refine import crf
from wsss.runs.inputs import index_parts
from wsss.runs.run import Run, shard_path
from wsss.stages.masks import write_masks


def decode(run: Run, shard: tuple[int, int], workers: int = 0) -> None:
    """Write the predicted labels of shard (k, n) of the validation and test images."""
    if not run.spec.decodes:
        raise ConfigError(f"{run.method} has no decoder of its own: use `wsss masks`.")
    index, params = load_index(run.index, *index_parts(run, "decode")), run.settings.decode
    if params.crf != "none":
        crf.check_installed()
    runtime, name = Runtime.start("auto"), str(run.spec.cam_network)
    method = build_method(run, len(index.classes))
    net = restore(lambda: method.build(name), run.path(f"{name}.safetensors"), runtime)
    batches = shard_batches(plan_batches(index.split("val", "test"), params.batch), shard)
    forward = without_gradients(lambda images: method.decode(net, images))
    augmentation, normalise = decode_augmentation(params), normalisation(net)
    results = inference(forward, batches, augmentation, normalise, runtime, workers)
    shown = progress(results, f"decoder {shard[0]}/{shard[1]}", len(batches))
    write_masks(shard_path(run, "decode", shard), shown, params, normalise)
