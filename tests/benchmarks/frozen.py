"""Scores of frozen affinities beside a trained AffinityNet on one run, and pictures of where they lose.

    python tests/benchmarks/frozen.py stamps/cam/common/s0 --params params/stamps.yaml --images 80

It stands in the folder of a checkout with the run's CAMs; the initial weights of the backbone and, if the
run has one, its trained affinity network are compared on the same training images. Thresholds are
chosen on the even images and scored on the odd ones.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from wsss.data.images import load_entry, load_truth
from wsss.data.index import Entry, load_index
from wsss.data.labelmap import palette
from wsss.inference.trained import normalisation
from wsss.machine.runtime import Runtime
from wsss.nets.affinitynet import build_affinity_network
from wsss.nets.build import load_backbone
from wsss.nets.frozen import FrozenNet
from wsss.runs.inputs import initial_weights_path
from wsss.runs.run import Run
from wsss.scores.metrics import ThresholdCurve, confusion, mean_iou, seed, thresholds
from wsss.settings import AffinityParams, WalkParams
from wsss.settings.layers import Layer
from wsss.settings.resolve import read_layers, validate_layers
from wsss.stages.affinity import set_unit
from wsss.stages.walk import affinity_forward, neighbours, spread_cam
from wsss.storage import checkpoint
from wsss.storage.cam_archive import Cam, CamReader

LEVELS = 100
BETAS = (5.0, 6.5, 8.0, 10.0, 13.0)
SHOWN = 5  # images of which frozen affinities lose the most


def network(run: Run, name: str | None = None) -> torch.nn.Module:
    """Return the trained affinity network of a run, or its frozen one with measured unit.

    name: initial weights of a frozen network, such as `tf_efficientnet_lite0.imagenet`.
    """
    net = build_affinity_network(run.settings.affinity)
    weights = initial_weights_path(name) if name else run.path("affinity.safetensors")
    if isinstance(net, FrozenNet):
        load_backbone(net.backbone, checkpoint.load(weights)[0], weights)
        set_unit(run, net, Runtime.start())
    else:
        checkpoint.fill(net, checkpoint.load(weights)[0], weights)
    return net.eval().requires_grad_(False)


def outputs(net: torch.nn.Module, entries: Sequence[Entry]) -> dict[str, Tensor]:
    """Return the outputs (C, h, w) of an affinity network by image."""
    forward, normalise = affinity_forward(net, 512), normalisation(net)
    with torch.inference_mode():
        images = ((e.name, torch.from_numpy(normalise(load_entry(e)))[None]) for e in entries)
        return {name: forward(image)[0] for name, image in images}


def walked(
    features: dict[str, Tensor], affinity: AffinityParams, params: WalkParams, cams: CamReader
) -> Iterator[tuple[str, Cam]]:
    """Yield the CAM of each image after the walk."""
    for name, output in features.items():
        yield name, spread_cam(cams[name], neighbours(output, 4, affinity, params), params)


def scores(
    entries: Sequence[Entry], maps: dict[str, Cam], classes: int
) -> tuple[float, float, float]:
    """Return the best mIoU of the even images, the odd images' at its threshold, and the threshold."""
    curves = [ThresholdCurve(classes, thresholds(LEVELS)) for _ in range(2)]
    for number, entry in enumerate(entries):
        cam = maps[entry.name]
        curves[number % 2].add(load_truth(entry, classes - 1), cam.full(), cam.labels)
    even, odd = (mean_iou(curve.matrices()) for curve in curves)
    best = int(even.argmax())
    return float(even[best]), float(odd[best]), best / LEVELS


def image_miou(entry: Entry, cam: Cam, level: float, classes: int) -> float:
    """Return the mIoU of one image over its own classes."""
    labels = seed(cam.full(), cam.labels, level)
    return float(mean_iou(confusion(load_truth(entry, classes - 1), labels, classes), "B"))


def picture(
    path: Path,
    entries: Sequence[Entry],
    columns: Sequence[tuple[dict[str, Cam], float]],
    classes: int,
) -> None:
    """Write images, true labels, and labels of maps at their thresholds, one row for each image."""
    colours = np.array(palette(), np.uint8).reshape(-1, 3)
    rows = []
    for entry in entries:
        labels = [load_truth(entry, classes - 1)]
        for maps, level in columns:
            cam = maps[entry.name]
            labels.append(seed(cam.full(), cam.labels, level))
        painted: list[NDArray[np.uint8]] = [colours[part] for part in labels]
        rows.append(np.concatenate([load_entry(entry), *painted], 1))
    Image.fromarray(np.concatenate(rows)).save(path, quality=85)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--params", type=Path, nargs="+", default=[Path("params.yaml")])
    parser.add_argument("--images", type=int, default=80)
    parser.add_argument("--picture", type=Path)
    chosen = parser.parse_args()
    layers = read_layers(chosen.params)
    run = Run.parse(chosen.run, validate_layers(layers, "the parameters"))
    frozen_layer = Layer("frozen", {"affinity": {"kind": "frozen", "checkpoint": None}})
    frozen = Run.parse(chosen.run, validate_layers([*layers, frozen_layer], "the parameters"))
    index = load_index(run.index, "train", "train_truth")
    entries, classes = index.training()[: chosen.images], len(index.classes) + 1
    cams, settings = CamReader(run.path("cam.zip")), run.settings
    seeds = {entry.name: cams[entry.name] for entry in entries}
    print("| affinities | even | odd | threshold | CPU seconds |\n|---|--:|--:|--:|--:|")
    candidates = {
        "none (the seed)": (seeds, *line("none (the seed)", entries, seeds, classes, 0.0))
    }
    net = network(frozen, frozen.settings.affinity.initial)
    began = time.process_time()
    features = outputs(net, entries)
    forward = time.process_time() - began
    print(f"unit {float(net.unit):.3f}, gain at beta 8 {8 / float(net.unit):.1f}")
    steps = [
        (f"frozen, beta {beta:g}", frozen.settings.affinity, features, 7, beta, forward)
        for beta in BETAS
    ]
    if run.path("affinity.safetensors").is_file() and settings.affinity.kind != "frozen":
        net = network(run)
        began = time.process_time()
        learned = outputs(net, entries)
        forward = time.process_time() - began
        steps += [
            (
                f"{settings.affinity.kind}, {2**log2} steps",
                settings.affinity,
                learned,
                log2,
                None,
                forward,
            )
            for log2 in (5, 6, 7)
        ]
    for name, affinity, maps, log2, beta, forward in steps:
        walk = settings.walk.model_copy(
            update={"log2_steps": log2, **({"beta": beta} if beta else {})}
        )
        began = time.process_time()
        spread = dict(walked(maps, affinity, walk, cams))
        seconds = forward + time.process_time() - began
        candidates[name] = (spread, *line(name, entries, spread, classes, seconds))
    if chosen.picture:
        frozen_maps, level = candidates["frozen, beta 8"]
        gain = {
            entry.name: image_miou(entry, frozen_maps[entry.name], level, classes)
            - image_miou(entry, seeds[entry.name], candidates["none (the seed)"][1], classes)
            for entry in entries
        }
        worst = sorted(entries, key=lambda entry: gain[entry.name])[:SHOWN]
        shown = [
            candidates[name]
            for name in candidates
            if name in ("none (the seed)", "frozen, beta 8", "affinitynet, 64 steps")
        ]
        picture(chosen.picture, worst, shown, classes)
        print({entry.name: round(gain[entry.name], 3) for entry in worst})


def line(
    name: str, entries: Sequence[Entry], maps: dict[str, Cam], classes: int, seconds: float
) -> tuple[float]:
    """Print a row of the table and return its threshold."""
    even, odd, level = scores(entries, maps, classes)
    print(f"| {name} | {even:.1%} | {odd:.1%} | {level:.2f} | {seconds:.1f} |", flush=True)
    return (level,)


if __name__ == "__main__":
    main()
