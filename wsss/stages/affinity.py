"""Train the affinity network (AffinityNet or IRN) on the affinity labels, or take its weights."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from wsss.data.images import LabelReader, load_entry
from wsss.data.index import load_index
from wsss.data.resize import pad_to_multiple
from wsss.data.workers import Batch
from wsss.inference.trained import normalisation
from wsss.machine.runtime import Runtime
from wsss.nets.affinitynet import affinity_layout, build_affinity_network
from wsss.nets.backbone import Network
from wsss.nets.frozen import FrozenNet, measure_unit
from wsss.nets.irn import IRN, measure_mean
from wsss.refine.affinity import (
    affinity_loss,
    displacement_loss,
    pair_affinities,
    path_affinities,
    reduce_labels,
)
from wsss.runs.inputs import index_parts
from wsss.runs.run import Run
from wsss.settings import AffinityParams
from wsss.storage.archive import Reader
from wsss.storage.checkpoint import Layout
from wsss.training.fitting import Choice, changed
from wsss.training.loop import Objective
from wsss.training.session import adopt_initial, adopt_published, initialise, train_network


class Affinities(Objective):
    """AffinityNet's losses over all pairs of cells within the radius."""

    def __init__(self, net: nn.Module, params: AffinityParams) -> None:
        super().__init__()
        self.net, self._params = net, params

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the terms for alike pairs in background and foreground and for unlike pairs."""
        features = self.net(batch["image"]).float()
        radius, margin = self._params.radius, pair_margin(self._params)
        pairs = pair_affinities(features, radius, margin)
        return affinity_loss(pairs, labels_at_cells(batch["mask"], features, self._params), margin)


class Relations(Objective):
    """IRN's losses: affinities along lines, and displacements towards the centre of an object."""

    def __init__(self, net: nn.Module, params: AffinityParams) -> None:
        super().__init__()
        self.net, self._params = net, params

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the terms for alike and unlike pairs, and for displacements."""
        logits, field = self.net(batch["image"])
        labels = labels_at_cells(batch["mask"], logits, self._params)
        radius, margin = self._params.radius, pair_margin(self._params)
        pairs = path_affinities(logits[:, 0].float().sigmoid(), radius, margin)
        terms = affinity_loss(pairs, labels, margin)
        if field is None:
            return terms
        return terms | displacement_loss(field.float(), labels, radius, margin)


OBJECTIVES = {"affinitynet": Affinities, "irn": Relations}


def pair_margin(params: AffinityParams) -> int:
    """Return the margin of `affinity.windows`, in cells."""
    return params.radius - 1 if params.margin else 0


def labels_at_cells(masks: Tensor, features: Tensor, params: AffinityParams) -> Tensor:
    """Return masks (B, H, W) at the size and on the device of features (B, C, h, w)."""
    cells = (features.shape[2], features.shape[3])
    return reduce_labels(masks.to(features.device), cells, params.label_cell)


def affinity(run: Run) -> None:
    """Train the affinity network, or take its published weights or a frozen network's initial ones."""
    params, labels = run.settings.affinity, run.path("confident.zip")
    net, weights = initialise(lambda: build_affinity_network(params), run, "affinity")
    if isinstance(net, FrozenNet):
        runtime = Runtime.start(params.train.precision)
        set_unit(run, net, runtime)
        adopt_initial(run, "affinity", net, weights, runtime)
        return
    if params.checkpoint:
        runtime = Runtime.start(params.train.precision)

        def build(choice: Choice) -> tuple[nn.Module, Layout]:
            other = changed(params, choice)
            layout = affinity_layout(other)  # first: there is none for most backbones
            return build_affinity_network(other), layout

        adopt_published(
            run, "affinity", net, params.checkpoint, affinity_layout(params), build, runtime
        )
        return
    train_network(
        run,
        "affinity",
        OBJECTIVES[params.kind](net, params),
        [labels, *weights],
        masks=LabelReader(Reader(labels)),
        finish=lambda runtime: set_mean_displacement(run, net, runtime),
    )


def set_mean_displacement(run: Run, net: Network, runtime: Runtime) -> None:
    """Set IRN's mean displacement from the upper left crops of the training images, as published.

    The last incomplete batch is left out, unless it is the only one.
    """
    if not isinstance(net, IRN):
        return
    entries = load_index(run.index, *index_parts(run, "affinity")).split("train")
    count, side = run.settings.affinity.train.batch, run.settings.affinity.augment.crop_px
    entries = entries[: max(count, len(entries) // count * count)]
    normalise = normalisation(net)

    def crops() -> Iterator[Tensor]:
        for at in range(0, len(entries), count):
            batch = torch.zeros(len(entries[at : at + count]), 3, side, side)
            for image, entry in zip(batch, entries[at:], strict=False):
                corner = normalise(load_entry(entry)[:side, :side])
                image[:, : corner.shape[1], : corner.shape[2]] = torch.from_numpy(corner)
            yield runtime.send(batch)

    measure_mean(net, crops())


def set_unit(run: Run, net: FrozenNet, runtime: Runtime) -> None:
    """Set the unit of a frozen network, as a number or from training images at equal intervals."""
    params = run.settings.affinity.frozen
    if params.unit != "measured":
        net.unit.fill_(params.unit)
        return
    entries = load_index(run.index, *index_parts(run, "affinity")).training()
    chosen = entries[:: -(-len(entries) // params.images) or 1]
    normalise = normalisation(net)
    runtime.place(net.eval())
    images = (torch.from_numpy(normalise(load_entry(entry)))[None] for entry in chosen)
    measure_unit(net, (pad_to_multiple(runtime.send(image), net.stride) for image in images))
