"""What every stage that trains or uses a network does: start, initialise, train, load, record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsss.data.index import TRAINING, Index, load_index
from wsss.errors import DatasetError
from wsss.inference.trained import normalisation
from wsss.machine.runtime import Runtime
from wsss.nets.backbone import Network
from wsss.nets.build import load_backbone, published_layout
from wsss.progress import log
from wsss.randomness import number
from wsss.runs.record import Recorder, recorder
from wsss.runs.run import Run, initial_weights, initial_weights_path
from wsss.settings import AugmentParams, PretrainedParams, TrainParams
from wsss.storage import checkpoint
from wsss.storage.checkpoint import Layout
from wsss.storage.files import write_text
from wsss.training.batches import Mask, TrainingImages
from wsss.training.loop import Objective, Training, fit

EMPTY_LOG = "step,epoch,lr,loss,images_per_s\n"  # of a network that was not trained here


def initialise(build: Callable[[], Network], run: Run, stage: str) -> tuple[Network, list[Path]]:
    """Return a network with its initial weights, and the files these came from."""
    torch.manual_seed(number(run.seed, "initial weights", stage))
    net = build()
    part = getattr(run.settings, stage, None)
    if isinstance(part, PretrainedParams) and part.initial_file:
        source = Path(part.initial_file)
        checkpoint.adopt(net.backbone, source, published_layout(part.backbone))
        log.info("initial weights of the %s: %s", stage, source)
        return net, [source]
    sources = []
    for attribute, name in initial_weights(run.settings, stage).items():
        sources.append(initial_weights_path(name))
        load_backbone(getattr(net, attribute), checkpoint.load(sources[-1])[0], sources[-1])
    return net, sources


def header(run: Run, stage: str, index: Index) -> dict[str, Any]:
    """Return what a weights file says of itself."""
    return {
        "run": str(run),
        "network": stage,
        "method": run.method,
        "params": run.slice(stage),
        "code": run.code(stage),
        "seed": run.seed,
        "classes": list(index.classes),
    }


def train_network(
    run: Run,
    stage: str,
    objective: Objective,
    augmentation: AugmentParams,
    params: TrainParams,
    inputs: Sequence[Path],
    mask: Mask | None = None,
    measure: Callable[[], dict[str, float]] = dict,
    finish: Callable[[Runtime], None] | None = None,
) -> None:
    """Train the network of a stage on the training images; write weights, log and record.

    finish: what is done to the trained network before its weights are written.
    measure: further numbers for the record, taken with the trained network.
    """
    runtime = Runtime.start(params.precision)
    index = load_index(run.index)
    entries = index.of_one_class(*TRAINING) if run.spec.localizes else index.training()
    if not entries:
        kind = "training images with one class" if run.spec.localizes else "training images"
        raise DatasetError(f"{run.index} has no {kind}. Give some rows the split 'train'.")
    record = recorder(run, stage, runtime.name)
    if runtime.is_main:
        log.info(
            "%s of %s: %d images, %d epochs, batch %d, on %s",
            *(stage, run, len(entries), params.epochs, params.batch),
            runtime.name if runtime.world == 1 else f"{runtime.world} x {runtime.name}",
        )
    images = TrainingImages(
        index, entries, augmentation, normalisation(objective.net), run.seed, mask
    )
    weights = run.path(f"{stage}.safetensors")
    training = Training(
        objective, images, params, run.seed, weights, header(run, stage, index), finish
    )
    metrics = fit(training, runtime)
    if runtime.is_main:
        metrics |= measure()
        record.write(run.path(f"{stage}.json"), [run.index, *inputs], [weights], metrics=metrics)
        seen = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        log.info("%s done: %s -> %s", stage, seen, weights)


def adopt_published(
    run: Run,
    stage: str,
    net: Network,
    source: Path,
    layout: Layout,
    runtime: Runtime,
    measure: Callable[[], dict[str, float]] = dict,
) -> None:
    """Take published weights as those of a stage; write them, a log without steps, and the record.

    source: the file, whose tensors `layout` translates. measure: as for `train`.
    """
    record = recorder(run, stage, runtime.name)
    checkpoint.adopt(net, source, layout)
    runtime.place(net)
    if not runtime.is_main:
        return
    weights = run.path(f"{stage}.safetensors")
    checkpoint.save(weights, net.state_dict(), header(run, stage, load_index(run.index)))
    write_text(weights.with_suffix(".csv"), EMPTY_LOG)
    record.write(run.path(f"{stage}.json"), [run.index, source], [weights], metrics=measure())
    log.info("%s from %s -> %s", stage, source, weights)


def write_computed(
    run: Run, stage: str, tensors: Mapping[str, Tensor], index: Index, record: Recorder
) -> None:
    """Write what was computed instead of trained, a log without steps, and the record."""
    weights = run.path(f"{stage}.safetensors")
    checkpoint.save(weights, tensors, header(run, stage, index))
    write_text(weights.with_suffix(".csv"), EMPTY_LOG)
    before = [run.path(f"{name}.safetensors") for name in run.after(stage)]
    record.write(run.path(f"{stage}.json"), [run.index, *before], [weights], metrics={})
    shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
    log.info("%s done: %s -> %s", stage, shapes, weights)
