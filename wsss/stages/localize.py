"""CAM inference on the training images, in shards that are joined afterwards."""

from __future__ import annotations

from wsss import archive
from wsss.camstore import pack
from wsss.data.index import load_index
from wsss.localize import Resizing, cam_size, high_size, inference_at, part, plan_batches, to_cam
from wsss.plan import Run
from wsss.progress import progress
from wsss.runtime import Runtime
from wsss.stages import network as stage
from wsss.stages.classify import build_method


def localize(run: Run, shard: tuple[int, int], workers: int = 0) -> None:
    """Write the CAMs of shard (k, n) of the training images."""
    index, params = load_index(run.index), run.settings.cam
    runtime = Runtime.start("auto")
    name = str(run.spec.localizer)
    method = build_method(run, len(index.classes))
    net = stage.restore(lambda: method.build(name), run.path(f"{name}.safetensors"), runtime)
    batches = part(plan_batches(index.training(), params.batch), shard)
    look = stage.look(lambda images: method.cam(net, images))
    sizes = [cam_size(params.stride), *([high_size] if params.high_res else [])]
    results = inference_at(
        look,
        batches,
        params,
        sizes,
        stage.normalisation(net),
        runtime,
        workers,
        Resizing(multiple=params.multiple),
    )
    with archive.Writer(stage.shard_path(run, "cam", shard)) as writer:
        for entries, maps in progress(results, f"CAMs {shard[0]}/{shard[1]}", len(batches)):
            for entry, *own in zip(entries, *maps, strict=True):
                labels = index.numbers(entry.labels)
                high = own[1] if params.high_res else None
                cam = to_cam(own[0], labels, entry.size, params.stride, high, params.normalise)
                writer.add(f"{entry.name}.npz", pack(cam))
