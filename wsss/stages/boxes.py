"""Boxes of the validation images that have one class: of the best classes, and of the true one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from wsss.data.images import load_image
from wsss.data.index import Entry, load_index
from wsss.data.resize import squash
from wsss.errors import DatasetError
from wsss.inference.trained import normalisation, restore
from wsss.machine.runtime import Runtime
from wsss.methods.base import Method, build_method
from wsss.nets.backbone import Network
from wsss.progress import progress
from wsss.runs.record import recorder
from wsss.runs.run import Run
from wsss.scores.boxes import from_map
from wsss.storage import archive
from wsss.storage.archive import pack_arrays

BEST = 5  # classes whose boxes are kept


def boxes(run: Run) -> None:
    """Write ranked classes and boxes, in the frame of the network's training crops."""
    index, params = load_index(run.index), run.settings.boxes
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
            truth = [index.numbers(entry.labels)[0] for entry in part]
            images = runtime.send(pictures(part, side, net))
            found = found_in(method, net, images, truth, params.threshold)
            for entry, own in zip(part, found, strict=True):
                writer.add(f"{entry.name}.npz", pack_arrays({**own, "side": np.array(side)}))
    record.write(run.path("boxes.json"), [run.index, weights], [run.path("boxes.zip")])


def pictures(entries: Sequence[Entry], side: int, net: Network) -> torch.Tensor:
    """Return whole images as squares (B, 3, side, side)."""
    normalise = normalisation(net)
    return torch.stack(
        [torch.from_numpy(squash(load_image(entry.path), side, normalise)) for entry in entries]
    )


def found_in(
    method: Method, net: Network, images: torch.Tensor, truth: Sequence[int], threshold: float
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the best classes of each image, their boxes (K, 4), and the box of the true class (4,)."""
    with torch.inference_mode():
        logits, maps = method.logits(net, images), method.cam(net, images)
        ranked = logits.argsort(dim=1, descending=True, stable=True)[:, :BEST].cpu()
        wanted = torch.cat([ranked, torch.tensor(truth)[:, None]], 1).to(maps.device)
        rows = torch.arange(len(maps), device=maps.device)[:, None]
        size = (images.shape[2], images.shape[3])
        large = F.interpolate(maps[rows, wanted].float(), size, mode="bilinear").cpu().numpy()
    for classes, own in zip(ranked.numpy(), large, strict=True):
        places = np.array([from_map(scores, threshold) for scores in own], np.int32)
        yield {"classes": classes.astype(np.int32), "boxes": places[:-1], "own": places[-1]}
