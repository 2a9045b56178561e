"""Train a network of a method's chain from image-level labels."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsss.data.index import Entry, Index, load_index
from wsss.data.workers import Batch, to_device
from wsss.errors import CheckpointError, ConfigError, MissingError, StaleError
from wsss.inference.multiscale import ImageViews, plan_batches
from wsss.inference.trained import normalisation, restore
from wsss.machine.runtime import Runtime, deterministic, evaluating
from wsss.methods.base import Computed, Method, Source, build_method
from wsss.nets.backbone import Network
from wsss.progress import log, progress
from wsss.runs.inputs import index_parts
from wsss.runs.record import recorder
from wsss.runs.run import Run
from wsss.runs.sources import verify_sources
from wsss.runs.texts import TextVectors, text_vectors
from wsss.scores.metrics import (
    image_average_precision,
    image_f1,
    label_recall,
    mean_average_precision,
)
from wsss.storage import checkpoint
from wsss.storage.checkpoint import Layout
from wsss.training.batches import Squares
from wsss.training.fitting import Choice, changed
from wsss.training.loop import Objective
from wsss.training.session import (
    adopt_published,
    initialise,
    train_network,
    write_computed,
    write_untrained,
)


class Classification(Objective):
    """The losses of the network `name` of a method.

    earlier: the networks of the chain before it. squares: the training images, for the method's work
    between two epochs.
    """

    def __init__(
        self,
        method: Method,
        name: str,
        net: nn.Module,
        earlier: Mapping[str, nn.Module],
        squares: Squares,
    ) -> None:
        super().__init__()
        self.net = net
        self._method, self._name, self._squares = method, name, squares
        self._earlier = dict(earlier)

    @property
    def _nets(self) -> dict[str, nn.Module]:
        return {**self._earlier, self._name: self.net}

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the method's loss terms."""
        return self._method.losses(self._name, self._nets, batch, step)

    def after_epoch(self, epoch: int, runtime: Runtime) -> None:
        """Let the method work on all training images between two epochs."""

        def images(side: int, batch: int) -> Iterator[Batch]:
            shuffled = self._squares.batches(side, batch, epoch)
            return (to_device(squares, runtime) for squares in shuffled)

        self._method.after_epoch(self._name, self._nets, epoch, images)


def train(run: Run, name: str) -> None:
    """Train the network `name` of the run's chain, or take its published weights."""
    if name not in run.spec.networks:
        chain = ", ".join(run.spec.networks) or "none"
        raise ConfigError(f"{run.method} has no network {name!r}; its chain is {chain}.")
    index = load_index(run.index, *index_parts(run, name))
    method = build_method(run, len(index.classes))
    params = run.settings.networks[name]
    runtime = Runtime.start(params.train.precision)
    earlier = {other: restore_network(run, method, other, runtime) for other in run.after(name)}
    if run.spec.networks[name].computed:
        compute(run, name, method, earlier, index, runtime)
        return
    if run.spec.networks[name].given:
        give(run, name, method, index, runtime)
        return
    net, weights = initialise(lambda: method.build(name), run, name)

    def measure() -> dict[str, float]:
        return _validation(run, method, net)

    complete = functools.partial(prepare, run, name, method, net, index, runtime)
    if source := params.checkpoint:
        build = functools.partial(other_network, method, name)
        layout = method.layout(name)
        adopt_published(run, name, net, source, layout, build, runtime, measure, complete)
        return
    if run.spec.warning:
        log.warning("%s: %s", run, run.spec.warning)
    weights += complete()
    squares = Squares(index, index.training(), normalisation(net), run.seed)
    objective = Classification(method, name, net, earlier, squares)
    paths = [run.path(f"{other}.safetensors") for other in earlier]
    train_network(run, name, objective, [*paths, *weights], measure=measure)


def other_network(method: Method, name: str, choice: Choice) -> tuple[nn.Module, Layout]:
    """Return a network of a method with another backbone, crop or number of classes."""
    params = {**method.params, name: changed(method.params[name], choice)}
    other = type(method)(params, choice.classes)
    layout = other.layout(name)  # first: there is none for most backbones
    return other.build(name), layout


def _validation(run: Run, method: Method, net: Network) -> dict[str, float]:
    """Return the scores of the validation images, a log that no later stage reads.

    The record does not depend on these parts of the index.
    """
    scored = load_index(run.index, "val", "val_truth")
    return {} if run.spec.localizes else validate(method, net, scored)


def restore_network(run: Run, method: Method, name: str, runtime: Runtime) -> nn.Module:
    """Return a trained or computed network of the chain, on the device."""
    path = run.path(f"{name}.safetensors")
    if run.spec.networks[name].computed:
        return runtime.place(Computed(checkpoint.load(path)[0]))
    return restore(lambda: method.build(name), path, runtime)


def compute(
    run: Run,
    name: str,
    method: Method,
    earlier: Mapping[str, nn.Module],
    index: Index,
    runtime: Runtime,
) -> None:
    """Write the tensors that a method computes from earlier networks of its chain.

    Raises:
        ConfigError: a checkpoint is set for them, but no such file is published.
    """
    _refuse_checkpoint(run, name, "is computed from other networks")
    if not runtime.is_main:
        runtime.wait()
        return
    verify_sources(run, name)
    record = recorder(run, name, runtime.name)

    def images(side: int, batch: int) -> Iterator[Batch]:
        trained = next(net for net in earlier.values() if isinstance(net, Network))
        return ordered_images(run, name, trained, index, runtime)(side, batch)

    repeatable = deterministic(run.settings.networks[name].train.deterministic)
    with torch.inference_mode(), runtime.autocast(), repeatable:
        tensors = method.compute(name, earlier, images)
    write_computed(run, name, tensors, index, record)
    runtime.wait()


def give(run: Run, name: str, method: Method, index: Index, runtime: Runtime) -> None:
    """Write a network that its method completes from given weights, instead of a trained one.

    Raises:
        ConfigError: a checkpoint is set for it.
    """
    _refuse_checkpoint(run, name, "is completed from given weights, which no file replaces")
    net, sources = initialise(lambda: method.build(name), run, name)
    runtime.place(net)
    if not runtime.is_main:
        runtime.wait()
        return
    verify_sources(run, name)
    record = recorder(run, name, runtime.name)
    sources += prepare(run, name, method, net, index, runtime)
    measure = functools.partial(_validation, run, method, net)
    write_untrained(run, name, net, sources, record, index, runtime, measure)
    runtime.wait()


def prepare(
    run: Run, name: str, method: Method, net: Network, index: Index, runtime: Runtime
) -> list[Path]:
    """Let a method complete a given or prepared network with its `give`, on the device and without gradients.

    Return the file of the vectors of words, if it is used.
    """
    spec = run.spec.networks[name]
    if not (spec.given or spec.prepared):
        return []
    runtime.place(net)
    text, images = text_vectors(run, name), ordered_images(run, name, net, index, runtime)
    repeatable = deterministic(run.settings.networks[name].train.deterministic)
    with evaluating(net), runtime.autocast(), repeatable:
        method.give(name, net, load_text(text, index, net) if text else None, images)
    return [text.path] if text else []


def load_text(text: TextVectors, index: Index, net: Network) -> dict[str, Tensor]:
    """Return the vectors of the words of a dataset: `classes` (C, D) and `background` (K, D).

    net: the network that is given them; its own vectors have the size D.

    Raises:
        MissingError: there is no file of these vectors.
        StaleError: the file is damaged or of other classes, or its vectors do not fit the network.
    """
    command = f"`wsss text {text.dataset}`, on a machine with the weights of CLIP's text tower"
    if not text.path.is_file():
        raise MissingError(f"{text.path} is missing. Run {command}.")
    try:
        vectors, about = checkpoint.load(text.path)
    except CheckpointError:
        raise StaleError(f"{text.path} is damaged. Run {command}.") from None
    if about.get("classes") != list(index.classes):
        raise StaleError(f"{text.path} is of other classes than the dataset has. Run {command}.")
    width = next(
        tensor.shape[1]
        for name, tensor in net.named_buffers()
        if name.rpartition(".")[2] == "classes"
    )
    if not _fit(vectors, len(index.classes), width):
        shapes = {name: tuple(vectors[name].shape) for name in sorted(vectors)}
        raise StaleError(
            f"{text.path} holds {shapes}, where {len(index.classes)} vectors of classes and those of "
            f"backgrounds have {width} finite numbers each. Run {command}."
        )
    return vectors


def _fit(vectors: Mapping[str, Tensor], classes: int, width: int) -> bool:
    """Return whether vectors have the names, the number and the size that a network is given."""
    if vectors.keys() != {"classes", "background"}:
        return False
    return vectors["classes"].shape == (classes, width) and all(
        part.ndim == 2
        and len(part) > 0
        and part.shape[1] == width
        and part.is_floating_point()
        and bool(part.isfinite().all())
        for part in vectors.values()
    )


def ordered_images(run: Run, name: str, net: Network, index: Index, runtime: Runtime) -> Source:
    """Return the source of all training images in their order, normalised for a network."""
    squares = Squares(index, index.training(), normalisation(net), run.seed)

    def images(side: int, batch: int) -> Iterator[Batch]:
        ordered = squares.in_order(side, batch)
        shown = progress(ordered, f"{name}: images", -(-len(squares.entries) // batch))
        return (to_device(pictures, runtime) for pictures in shown)

    return images


def _refuse_checkpoint(run: Run, name: str, reason: str) -> None:
    """Stop if a checkpoint is set for a network that nobody publishes."""
    if run.settings.networks[name].checkpoint:
        raise ConfigError(f"networks.{name} {reason}: set its checkpoint to null.")


def validate(method: Method, net: nn.Module, index: Index) -> dict[str, float]:
    """Return the classification scores of the validation images; empty if none has labels.

    Average precision over classes (mAP) and over images (MCTformer's "mAP"); F1 over images (ToCo) and
    recall at a probability of 0.5, over all labels and averaged over classes. All are in [0, 1].
    """
    entries = [entry for entry in index.split("val") if entry.labels]
    if not entries:
        return {}
    device = next(net.parameters()).device
    images = ImageViews(plan_batches(entries, 32), normalisation(net))
    scores, true = [], []
    with evaluating(net):
        for batch, (pictures,) in zip(images.batches, images, strict=True):
            scores.append(method.logits(net, pictures.to(device)).float().cpu().numpy())
            true.append(_label_matrix(batch, index))
    logits, labels = np.concatenate(scores), np.concatenate(true)
    recall, class_recall = label_recall(logits > 0, labels)
    return {
        "val_map": mean_average_precision(logits, labels),
        "val_image_ap": image_average_precision(logits, labels),
        "val_f1": image_f1(logits > 0, labels),
        "val_recall": recall,
        "val_class_recall": class_recall,
    }


def _label_matrix(entries: Sequence[Entry], index: Index) -> NDArray[np.bool_]:
    """Return the labels of images as a matrix (images, classes)."""
    labels = np.zeros((len(entries), len(index.classes)), bool)
    for row, entry in zip(labels, entries, strict=True):
        row[index.numbers(entry.labels)] = True
    return labels
