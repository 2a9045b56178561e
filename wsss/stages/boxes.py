"""Boxes of objects in the validation images with one class, for the best classes and the true one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from wsss.data.images import load_entry
from wsss.data.index import Entry, load_index
from wsss.data.resize import squash
from wsss.errors import DatasetError
from wsss.inference.trained import normalisation, restore
from wsss.machine.runtime import Runtime
from wsss.methods.base import Method, build_method
from wsss.nets.backbone import Network
from wsss.progress import progress
from wsss.runs.inputs import index_files, index_parts
from wsss.runs.record import recorder
from wsss.runs.run import Run
from wsss.runs.sources import verify_sources
from wsss.scores.boxes import from_map
from wsss.storage import archive
from wsss.storage.archive import pack_arrays

BEST = 5  # classes whose boxes are stored


def boxes(run: Run) -> None:
    """Write ranked classes and boxes, in pixels of a square as large as the training crops."""
    verify_sources(run, "boxes")
    index, params = load_index(run.index, *index_parts(run, "boxes")), run.settings.boxes
    entries = index.of_one_class("val")
    if not entries:
        raise DatasetError(
            f"{run.index} has no image of the split 'val' with one class, so nothing can be localized."
        )
    runtime, name = Runtime.start("fp32"), str(run.spec.cam_network)
    record = recorder(run, "boxes", runtime.name)
    method = build_method(run, len(index.classes))
    weights = run.path(f"{name}.safetensors")
    net = restore(lambda: method.build(name), weights, runtime)
    side = run.settings.networks[name].augment.crop_px
    parts = [entries[at : at + params.batch] for at in range(0, len(entries), params.batch)]
    with archive.Writer(run.path("boxes.zip")) as writer:
        for part in progress(parts, "boxes", len(parts)):
            true = [index.numbers(entry.labels)[0] for entry in part]
            images = runtime.send(pictures(part, side, net))
            results = class_boxes(method, net, images, true, params.threshold)
            for entry, arrays in zip(part, results, strict=True):
                writer.add(f"{entry.name}.npz", pack_arrays({**arrays, "side": np.array(side)}))
    inputs = [*index_files(run, "boxes"), weights]
    record.write(run.path("boxes.json"), inputs, [run.path("boxes.zip")])


def pictures(entries: Sequence[Entry], side: int, net: Network) -> torch.Tensor:
    """Return whole images as normalised squares (B, 3, side, side)."""
    normalise = normalisation(net)
    return torch.stack(
        [torch.from_numpy(squash(load_entry(entry), side, normalise)) for entry in entries]
    )


def class_boxes(
    method: Method, net: Network, images: torch.Tensor, true: Sequence[int], threshold: float
) -> Iterator[dict[str, NDArray[np.int32]]]:
    """Yield for each image the best `classes` (K,), their `boxes` (K, 4), and `own` (4,).

    true: the class of each image; `own` is its box. threshold: as in `boxes.from_map`.
    """
    with torch.inference_mode():
        logits, maps = method.logits(net, images), method.cam(net, images)
        ranked = logits.argsort(dim=1, descending=True, stable=True)[:, :BEST].cpu()
        boxed = torch.cat([ranked, torch.tensor(true)[:, None]], 1).to(maps.device)
        rows = torch.arange(len(maps), device=maps.device)[:, None]
        size = (images.shape[2], images.shape[3])
        large = F.interpolate(maps[rows, boxed].float(), size, mode="bilinear").cpu().numpy()
    for classes, class_maps in zip(ranked.numpy(), large, strict=True):
        places = np.array([from_map(scores, threshold) for scores in class_maps], np.int32)
        yield {"classes": classes.astype(np.int32), "boxes": places[:-1], "own": places[-1]}
