"""Scores of frozen affinities beside a trained AffinityNet on one run, and pictures of where they lose.

    python tests/benchmarks/frozen.py stamps/cam/common/s0 --params params/stamps.yaml --images 80

It stands in the folder of a checkout with the run's CAMs; the initial weights of the backbone and, if the
run has one, its trained affinity network are compared on the same training images. Thresholds are
chosen on the even images and scored on the odd ones.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from wsss.nets.affinitynet import AffinityNet, build_affinity_network
from wsss.nets.build import load_backbone
from wsss.nets.frozen import FrozenNet
from wsss.nets.irn import IRN
from wsss.runs.inputs import initial_weights_path
from wsss.runs.run import Run
from wsss.scores.metrics import ThresholdCurve, confusion, mean_iou, seed, thresholds
from wsss.settings.layers import Layer
from wsss.settings.resolve import read_layers, validate_layers
from wsss.stages.affinity import set_unit
from wsss.stages.walk import affinity_forward, neighbours, spread_cam
from wsss.storage import checkpoint
from wsss.storage.cam_archive import Cam, CamReader

LEVELS = 100
BETAS = (5.0, 6.5, 8.0, 10.0, 13.0)
SHOWN = 5  # images of which frozen affinities lose the most
SEED = "none (the seed)"
PICTURED = (SEED, "frozen, beta 8 ", "affinitynet, 64 ")  # columns of the picture


@dataclass(frozen=True)
class Candidate:
    """Maps by image, and the processor time that they took."""

    name: str
    maps: Mapping[str, Cam]
    seconds: float


@dataclass(frozen=True)
class Scored:
    """Maps by image, and their best threshold on the even images."""

    name: str
    maps: Mapping[str, Cam]
    level: float


def network(run: Run, name: str | None = None) -> AffinityNet | IRN | FrozenNet:
    """Return the affinity network of a run: its stored one, or a frozen one with a measured unit.

    name: initial weights of a frozen network, such as `tf_efficientnet_lite0.imagenet`.
    """
    net = build_affinity_network(run.settings.affinity)
    weights = initial_weights_path(name) if name else run.path("affinity.safetensors")
    state = checkpoint.load(weights)[0]
    if isinstance(net, FrozenNet) and name:
        load_backbone(net.backbone, state, weights)
        set_unit(run, net, Runtime.start())
    else:
        checkpoint.fill(net, state, weights)
    return net.eval().requires_grad_(False)


def outputs(net: AffinityNet | IRN | FrozenNet, entries: Sequence[Entry]) -> dict[str, Tensor]:
    """Return the outputs (C, h, w) of an affinity network by image."""
    forward, normalise = affinity_forward(net, 512), normalisation(net)
    with torch.inference_mode():
        images = ((e.name, torch.from_numpy(normalise(load_entry(e)))[None]) for e in entries)
        return {name: forward(image)[0] for name, image in images}


def candidates(run: Run, frozen: Run, entries: Sequence[Entry]) -> Iterator[Candidate]:
    """Yield the seeds of images, and their maps after the walks that are compared."""
    cams = CamReader(run.path("cam.zip"))
    yield Candidate(SEED, {entry.name: cams[entry.name] for entry in entries}, 0.0)
    net = network(frozen, frozen.settings.affinity.initial)
    factor = 8 / float(net.unit)
    yield from walked(
        frozen,
        net,
        entries,
        {
            f"frozen, beta {beta:g} (factor {factor * beta / 8:.1f})": {
                "beta": beta,
                "log2_steps": 7,
            }
            for beta in BETAS
        },
    )
    kind = run.settings.affinity.kind
    if kind != "frozen" and run.path("affinity.safetensors").is_file():
        walks = {f"{kind}, {2**steps} steps": {"log2_steps": steps} for steps in (5, 6, 7)}
        yield from walked(run, network(run), entries, walks)


def walked(
    run: Run,
    net: AffinityNet | IRN | FrozenNet,
    entries: Sequence[Entry],
    walks: Mapping[str, Mapping[str, float]],
) -> Iterator[Candidate]:
    """Yield the maps after walks along the affinities of a network. walks: changed settings, by name."""
    cams, affinity = CamReader(run.path("cam.zip")), run.settings.affinity
    began = time.process_time()
    features = outputs(net, entries)
    forward = time.process_time() - began
    for name, changes in walks.items():
        params = run.settings.walk.model_copy(update=dict(changes))
        began = time.process_time()
        maps = {
            image: spread_cam(cams[image], neighbours(output, net.stride, affinity, params), params)
            for image, output in features.items()
        }
        yield Candidate(name, maps, forward + time.process_time() - began)


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
    columns: Sequence[tuple[Mapping[str, Cam], float]],
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
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
    Image.fromarray(np.concatenate(padded)).save(path, quality=85)


def worst(
    entries: Sequence[Entry], seeds: Scored, walks: Scored, classes: int
) -> list[tuple[float, Entry]]:
    """Return the images that the walk harms the most, each with its gain of mIoU."""
    gains = [
        image_miou(entry, walks.maps[entry.name], walks.level, classes)
        - image_miou(entry, seeds.maps[entry.name], seeds.level, classes)
        for entry in entries
    ]
    order = np.argsort(gains)[:SHOWN]
    return [(gains[number], entries[number]) for number in order]


def compare(run: Run, frozen: Run, images: int, target: Path | None) -> None:
    """Print the table and write the picture `target`."""
    index = load_index(run.index, "train", "train_truth")
    entries, classes = index.training()[:images], len(index.classes) + 1
    print("| affinities | even | odd | threshold | CPU seconds |\n|---|--:|--:|--:|--:|")
    rows = []
    for candidate in candidates(run, frozen, entries):
        even, odd, level = scores(entries, candidate.maps, classes)
        rows.append(Scored(candidate.name, candidate.maps, level))
        print(
            f"| {candidate.name} | {even:.1%} | {odd:.1%} | {level:.2f} | {candidate.seconds:.1f} |"
        )
    if target:
        shown = [row for row in rows if row.name.startswith(PICTURED)]
        chosen = worst(entries, shown[0], shown[1], classes)
        columns = [(row.maps, row.level) for row in shown]
        picture(target, [entry for _, entry in chosen], columns, classes)
        print(", ".join(f"{entry.name} {gain:+.1%}" for gain, entry in chosen))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--params", type=Path, nargs="+", default=[Path("params.yaml")])
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--picture", type=Path)
    chosen = parser.parse_args()
    layers = read_layers(chosen.params)
    run = Run.parse(chosen.run, validate_layers(layers, "the parameters"))
    change = Layer("frozen", {"affinity": {"kind": "frozen", "checkpoint": None}})
    frozen = Run.parse(chosen.run, validate_layers([*layers, change], "the parameters"))
    compare(run, frozen, chosen.images, chosen.picture)


if __name__ == "__main__":
    main()
