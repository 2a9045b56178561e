"""Predict the validation and test images with a method's own decoder, in shards."""

from __future__ import annotations

from wsss.data.index import load_index
from wsss.errors import ConfigError
from wsss.inference.multiscale import inference, plan_batches, shard_batches
from wsss.inference.trained import normalisation, restore, without_gradients
from wsss.inference.views import decode_augmentation
from wsss.machine.accelerator import crf_device
from wsss.machine.runtime import Runtime
from wsss.methods.base import build_method
from wsss.progress import progress
from wsss.refine import crf
from wsss.runs.inputs import index_parts
from wsss.runs.run import Run
from wsss.runs.sources import verify_sources
from wsss.stages.gather import WHOLE, Shard, shard_writer
from wsss.stages.masks import write_masks


def decode(run: Run, shard: Shard | None, workers: int = 0) -> None:
    """Write the predicted labels of shard (k, n) of the validation and test images.

    shard: None writes all of them, with the record.
    """
    if not run.spec.decodes:
        raise ConfigError(f"{run.method} has no decoder of its own: use `wsss masks`.")
    verify_sources(run, "decode", checksums=shard is None)
    index, params = load_index(run.index, *index_parts(run, "decode")), run.settings.decode
    device = crf_device(run.settings.crf.device)
    crf.check_installed(params.crf, device)
    runtime, name = Runtime.start("auto"), str(run.spec.cam_network)
    method = build_method(run, len(index.classes))
    net = restore(lambda: method.build(name), run.path(f"{name}.safetensors"), runtime)
    number, count = shard or WHOLE
    cell_px = run.settings.networks[name].stride
    augmentation, entries = decode_augmentation(params, cell_px), index.split("val", "test")
    plan = plan_batches(entries, params.batch, augmentation, params.batch_megapixels)
    batches = shard_batches(plan, (number, count))
    forward = without_gradients(lambda images: method.decode(net, images))
    normalise = normalisation(net)
    results = inference(forward, batches, augmentation, normalise, runtime, workers)
    shown = progress(results, f"decoder {number}/{count}", len(batches))
    with shard_writer(run, "decode", shard) as writer:
        write_masks(writer, shown, params, normalise, device)
