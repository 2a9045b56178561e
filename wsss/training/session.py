"""From initial weights to a trained network on disk, with its log and its record."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from wsss.data.index import Entry, Index, load_index
from wsss.data.index_parts import TRAINING
from wsss.errors import DatasetError
from wsss.inference.trained import normalisation
from wsss.machine.gpus import advising
from wsss.machine.runtime import Runtime, deterministic
from wsss.nets import initial
from wsss.nets.backbone import Network
from wsss.nets.build import published_layout
from wsss.progress import log
from wsss.randomness import number
from wsss.runs.inputs import (
    index_files,
    index_parts,
    initial_weights,
    initial_weights_path,
)
from wsss.runs.record import Recorder, recorder
from wsss.runs.run import Run
from wsss.runs.sources import verify_sources
from wsss.settings import (
    AffinityParams,
    ClassifierParams,
    PretrainedParams,
    SegmenterParams,
    TrainParams,
)
from wsss.storage import checkpoint
from wsss.storage.checkpoint import Layout
from wsss.storage.content import file_and_key
from wsss.storage.files import write_text
from wsss.training.batches import MaskReader, Schedule, TrainingImages
from wsss.training.fitting import Build, Choice, backbone_suggestion, suggestion
from wsss.training.loop import Objective, Training, fit

EMPTY_LOG = "step,epoch,lr,loss\n"  # of a network that was not trained here

Built = TypeVar("Built", bound=Network)
Metrics = Callable[[], dict[str, float]]  # numbers for the record, from the trained network


def network_params(run: Run, stage: str) -> ClassifierParams | AffinityParams | SegmenterParams:
    """Return the settings of the network that a stage trains."""
    if stage in run.settings.networks:
        return run.settings.networks[stage]
    return run.settings.affinity if stage == "affinity" else run.settings.segmenter


def initialise(build: Callable[[], Built], run: Run, stage: str) -> tuple[Built, list[Path]]:
    """Return a network with its initial weights, and the files of these weights."""
    torch.manual_seed(number(run.seed, "initial weights", stage))
    net = build()
    params = network_params(run, stage)
    if isinstance(params, PretrainedParams) and params.initial_file and not params.checkpoint:
        source = params.initial_file
        advise = functools.partial(backbone_suggestion, params=params)
        checkpoint.adopt(net.backbone, source, published_layout(params.backbone), advise)
        log.info("initial weights of the %s: %s", stage, source)
        return net, [Path(file_and_key(source)[0])]
    sources = []
    for attribute, name in initial_weights(run.settings, stage).items():
        sources.append(initial_weights_path(name))
        initial.load_initial(net, attribute, sources[-1])
    return net, sources


def header(run: Run, stage: str, index: Index) -> dict[str, object]:
    """Return the header of the weights file of a stage: its run, settings, code and classes."""
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
    inputs: Sequence[Path],
    *,
    masks: MaskReader | None = None,
    measure: Metrics = dict,
    finish: Callable[[Runtime], None] | None = None,
) -> None:
    """Train the network of a stage on the training images; write weights, log and record.

    inputs: files that the record names besides parts of the index. masks: reads the labels of the pixels, for
    networks that learn from them. measure: returns further numbers for the record, from the trained
    network. finish: changes the trained network before its weights are written.
    """
    params = network_params(run, stage)
    runtime = Runtime.start(params.train.precision)
    verify_sources(run, stage, checksums=runtime.is_main)
    index = load_index(run.index, *index_parts(run, stage))
    entries = _training_entries(run, index)
    record = recorder(run, stage, runtime.name)
    if runtime.is_main:
        log.info(
            "%s of %s: %d images, %d epochs, batch %d, on %s",
            *(stage, run, len(entries), params.train.epochs, params.train.batch),
            runtime.name if runtime.world == 1 else f"{runtime.world} x {runtime.name}",
        )
    normalise = normalisation(objective.net)
    images = TrainingImages(index, entries, params.augment, normalise, run.seed, masks)
    weights, about = run.path(f"{stage}.safetensors"), header(run, stage, index)
    training = Training(objective, images, params.train, run.seed, weights, about, finish)
    advice = (
        f"Set train.accumulate of the {stage} to a larger divisor of its batch of {params.train.batch}, "
        "which needs less memory and learns the same but for BatchNorm, or use a GPU with more memory."
    )
    with deterministic(params.train.deterministic), advising(advice):
        metrics = fit(training, runtime) | (measure() if runtime.is_main else {})
    if runtime.is_main:
        record.images_per_s = metrics.pop("images_per_s")
        path, files = run.path(f"{stage}.json"), [*index_files(run, stage), *inputs]
        size = _size(objective.net, images_seen(params.train, len(entries)), runtime)
        outputs = [weights, training.log]
        record.write(path, files, outputs, metrics=metrics, **size)
        values = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        log.info("%s done: %s -> %s", stage, values, weights)


def images_seen(params: TrainParams, images: int) -> int:
    """Return how many images a training on `images` images uses, each as often as it is used."""
    keeps = params.last_batch == "keep"
    schedule = Schedule(images, params.batch, params.epochs, 1, 0, limit=params.steps, keep=keeps)
    if not keeps:
        return schedule.steps * params.batch
    epochs, steps = divmod(schedule.steps, schedule.steps_per_epoch)
    return epochs * images + min(steps * params.batch, images)


def _size(net: nn.Module, images: int | None, runtime: Runtime) -> dict[str, object]:
    """Return what the record of a network says about its size, its training and its arithmetic."""
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return {"parameters": parameters, "images_seen": images, "precision": runtime.precision}


def _training_entries(run: Run, index: Index) -> list[Entry]:
    """Return the images that a run trains on; methods that localize use those with one class."""
    entries = index.of_one_class(*TRAINING) if run.spec.localizes else index.training()
    if not entries:
        kind = "training images with one class" if run.spec.localizes else "training images"
        raise DatasetError(f"{run.index} has no {kind}. Give some rows the split 'train'.")
    return entries


def adopt_published(
    run: Run,
    stage: str,
    net: Network,
    source: str,
    layout: Layout,
    build: Build,
    runtime: Runtime,
    measure: Metrics = dict,
    complete: Callable[[], list[Path]] = list,
) -> None:
    """Write published weights as the weights of a stage, with an empty log and the record.

    source: the published file, or `FILE:key`. layout: translates the names of its tensors. build: returns
    the network with other settings, and the layout of its file. measure: as in `train_network`.
    complete: gives the network what the file lacks, and returns the files that this comes from.
    """
    record = recorder(run, stage, runtime.name)
    index = load_index(run.index, *index_parts(run, stage))
    params = network_params(run, stage)
    present = Choice(params.backbone, params.augment.crop_px, len(index.classes))
    advise = functools.partial(suggestion, build=build, present=present)
    checkpoint.adopt(net, source, layout, advise)
    runtime.place(net)
    if runtime.is_main:
        files = [Path(file_and_key(source)[0]), *complete()]
        write_untrained(run, stage, net, files, record, index, runtime, measure)


def adopt_initial(
    run: Run, stage: str, net: Network, sources: Sequence[Path], runtime: Runtime
) -> None:
    """Write the initial weights of a network as the weights of a stage, with an empty log and the record.

    sources: the files that the weights come from.
    """
    verify_sources(run, stage, checksums=runtime.is_main)
    record = recorder(run, stage, runtime.name)
    runtime.place(net)
    if runtime.is_main:
        index = load_index(run.index, *index_parts(run, stage))
        write_untrained(run, stage, net, sources, record, index, runtime, images=0)


def write_untrained(
    run: Run,
    stage: str,
    net: Network,
    sources: Sequence[Path],
    record: Recorder,
    index: Index,
    runtime: Runtime,
    measure: Metrics = dict,
    images: int | None = None,
) -> None:
    """Write a network that was not trained here, with an empty log and the record.

    sources: files that its weights are from. measure: as in `train_network`. images: how many images
    it has learned from; None: unknown.
    """
    weights = run.path(f"{stage}.safetensors")
    initial.save(weights, net, header(run, stage, index))
    write_text(weights.with_suffix(".csv"), EMPTY_LOG)
    path, size = run.path(f"{stage}.json"), _size(net, images, runtime)
    inputs, outputs = [*index_files(run, stage), *sources], [weights, weights.with_suffix(".csv")]
    record.write(path, inputs, outputs, metrics=measure(), **size)
    origin = " and ".join(map(str, sources)) or "the training images"
    log.info("%s from %s -> %s", stage, origin, weights)


def write_computed(
    run: Run, stage: str, tensors: Mapping[str, Tensor], index: Index, record: Recorder
) -> None:
    """Write tensors that were computed instead of trained, with an empty log and the record."""
    weights = run.path(f"{stage}.safetensors")
    checkpoint.save(weights, tensors, header(run, stage, index))
    write_text(weights.with_suffix(".csv"), EMPTY_LOG)
    earlier = [run.path(f"{name}.safetensors") for name in run.after(stage)]
    inputs = [*index_files(run, stage), *earlier]
    outputs = [weights, weights.with_suffix(".csv")]
    record.write(run.path(f"{stage}.json"), inputs, outputs, metrics={})
    shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
    log.info("%s done: %s -> %s", stage, shapes, weights)
