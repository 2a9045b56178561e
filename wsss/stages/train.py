"""Train a network of a method's chain from image-level labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wsss.data.index import Index, load_index
from wsss.data.workers import to_device
from wsss.errors import ConfigError
from wsss.inference.multiscale import ScaledImages, plan_batches
from wsss.inference.trained import normalisation, restore
from wsss.machine.runtime import Runtime, evaluating
from wsss.methods.base import Computed, Method, build_method
from wsss.nets.backbone import Network
from wsss.progress import log, progress
from wsss.runs.record import recorder
from wsss.runs.run import Run
from wsss.scores.metrics import (
    image_average_precision,
    image_f1,
    label_recall,
    mean_average_precision,
)
from wsss.storage import checkpoint
from wsss.training import session as stage
from wsss.training.batches import Squares
from wsss.training.loop import Objective


class Classification(Objective):
    """The losses of one network of a method."""

    def __init__(
        self,
        method: Method,
        name: str,
        net: nn.Module,
        before: Mapping[str, nn.Module],
        squares: Squares,
    ) -> None:
        super().__init__()
        self.net = net
        self._method, self._name, self._squares = method, name, squares
        self._before = dict(before)

    @property
    def _nets(self) -> dict[str, nn.Module]:
        return {**self._before, self._name: self.net}

    def forward(self, batch: Mapping[str, Any], step: int) -> dict[str, Tensor]:
        """Return the method's loss terms."""
        return self._method.losses(self._name, self._nets, batch, step)

    def after_epoch(self, epoch: int, runtime: Runtime) -> None:
        """Let the method look at all training images."""

        def images(side: int, batch: int) -> Iterator[dict[str, Any]]:
            found = self._squares.batches(side, batch, epoch)
            return (to_device(part, runtime) for part in found)

        self._method.after_epoch(self._name, self._nets, epoch, images)


def train(run: Run, name: str) -> None:
    """Train the network `name` of the run's chain, or take its published weights."""
    if name not in run.spec.networks:
        known = ", ".join(run.spec.networks) or "none"
        raise ConfigError(f"{run.method} has no network {name!r}; its chain is {known}.")
    index = load_index(run.index)
    method = build_method(run, len(index.classes))
    paths = [run.path(f"{other}.safetensors") for other in run.after(name)]
    runtime = Runtime.start(run.settings.networks[name].train.precision)
    nets = {other: restored(run, method, other, runtime) for other in run.after(name)}
    if run.spec.networks[name].computed:
        compute(run, name, method, nets, index, runtime)
        return
    net, weights = stage.initialise(lambda: method.build(name), run, name)
    params = run.settings.networks[name]
    measure = lambda: {} if run.spec.localizes else validate(method, net, index)  # noqa: E731  # bound late: the trained network
    if params.checkpoint:
        source = Path(params.checkpoint)
        stage.adopt_published(run, name, net, source, method.layout(name), runtime, measure)
        return
    if run.spec.warning:
        log.warning("%s: %s", run, run.spec.warning)
    squares = Squares(index, index.training(), normalisation(net), run.seed)
    objective = Classification(method, name, net, nets, squares)
    stage.train_network(
        run, name, objective, params.augment, params.train, [*paths, *weights], measure=measure
    )


def restored(run: Run, method: Method, name: str, runtime: Runtime) -> nn.Module:
    """Return a network of the chain as it was trained or computed, on the device."""
    path = run.path(f"{name}.safetensors")
    if run.spec.networks[name].computed:
        return runtime.place(Computed(checkpoint.load(path)[0]))
    return restore(lambda: method.build(name), path, runtime)


def compute(
    run: Run,
    name: str,
    method: Method,
    nets: Mapping[str, nn.Module],
    index: Index,
    runtime: Runtime,
) -> None:
    """Write the tensors that a method computes from networks of its chain.

    Raises:
        ConfigError: published weights are to be taken for it; there is no file of such tensors.
    """
    if run.settings.networks[name].checkpoint:
        raise ConfigError(f"networks.{name} is computed from others: set its checkpoint to null.")
    if not runtime.is_main:
        runtime.wait()
        return
    record = recorder(run, name, runtime.name)

    def images(side: int, batch: int) -> Iterator[dict[str, Any]]:
        trained = next(net for net in nets.values() if isinstance(net, Network))
        squares = Squares(index, index.training(), normalisation(trained), run.seed)
        found = squares.in_order(side, batch)
        shown = progress(found, f"{name}: images", -(-len(squares.entries) // batch))
        return (to_device(part, runtime) for part in shown)

    with torch.inference_mode(), runtime.autocast():
        tensors = method.compute(name, nets, images)
    stage.write_computed(run, name, tensors, index, record)
    runtime.wait()


def validate(method: Method, net: nn.Module, index: Index) -> dict[str, float]:
    """Return how well the labels of the validation images are found; nothing if there are none.

    Average precision by class (mAP) and by image (MCTformer's "mAP"); F1 by image (ToCo) and recall
    at a probability of 0.5, of all labels and averaged over classes. Images at their own size.
    """
    entries = [entry for entry in index.split("val") if entry.labels]
    if not entries:
        return {}
    device = next(net.parameters()).device
    images = ScaledImages(plan_batches(entries, 32), (1.0,), normalisation(net))
    scores, truths = [], []
    with evaluating(net):
        for batch, (pictures,) in zip(images.batches, images, strict=True):
            scores.append(method.logits(net, pictures.to(device)).float().cpu().numpy())
            truth = np.zeros((len(batch), len(index.classes)), bool)
            for row, entry in zip(truth, batch, strict=True):
                row[index.numbers(entry.labels)] = True
            truths.append(truth)
    logits, labels = np.concatenate(scores), np.concatenate(truths)
    recall, class_recall = label_recall(logits > 0, labels)
    return {
        "val_map": mean_average_precision(logits, labels),
        "val_image_ap": image_average_precision(logits, labels),
        "val_f1": image_f1(logits > 0, labels),
        "val_recall": recall,
        "val_class_recall": class_recall,
    }
