"""Train what says which cells belong together, AffinityNet or IRN, on the affinity labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsss.data.images import LabelReader, load_image
from wsss.data.index import load_index
from wsss.inference.trained import normalisation
from wsss.machine.runtime import Runtime
from wsss.nets.affinitynet import affinity_layout, build_affinity_network
from wsss.nets.backbone import Network
from wsss.nets.irn import IRN, measure_mean
from wsss.refine.affinity import (
    affinity_loss,
    displacement_loss,
    pair_affinities,
    path_affinities,
    reduce_labels,
)
from wsss.runs.run import Run
from wsss.settings import AffinityParams
from wsss.storage.archive import Reader
from wsss.training import session as stage
from wsss.training.loop import Objective


class Affinities(Objective):
    """AffinityNet's losses over all pairs of near cells."""

    def __init__(self, net: nn.Module, params: AffinityParams) -> None:
        super().__init__()
        self.net, self._params = net, params

    def forward(self, batch: Mapping[str, Any], step: int) -> dict[str, Tensor]:
        """Return the terms for background, foreground and unlike pairs."""
        features = self.net(batch["image"]).float()
        radius, margin = self._params.radius, margin_of(self._params)
        pairs = pair_affinities(features, radius, margin)
        return affinity_loss(pairs, reduced(batch["mask"], features, self._params), margin)


class Relations(Objective):
    """IRN's losses: affinities along lines, and displacements towards a common place."""

    def __init__(self, net: nn.Module, params: AffinityParams) -> None:
        super().__init__()
        self.net, self._params = net, params

    def forward(self, batch: Mapping[str, Any], step: int) -> dict[str, Tensor]:
        """Return the terms for background, foreground and unlike pairs, and for displacements."""
        logits, field = self.net(batch["image"])
        labels = reduced(batch["mask"], logits, self._params)
        radius, margin = self._params.radius, margin_of(self._params)
        pairs = path_affinities(logits[:, 0].float().sigmoid(), radius, margin)
        terms = affinity_loss(pairs, labels, margin)
        if field is None:
            return terms
        return terms | displacement_loss(field.float(), labels, radius, margin)


OBJECTIVES = {"affinitynet": Affinities, "irn": Relations}


def margin_of(params: AffinityParams) -> int:
    """Return the margin of `affinity.windows`, in cells."""
    return params.radius - 1 if params.margin else 0


def reduced(masks: Tensor, like: Tensor, params: AffinityParams) -> Tensor:
    """Return masks (B, H, W) at the size and on the device of features (B, C, h, w)."""
    height, width = like.shape[2:]
    small = reduce_labels(masks.cpu().numpy(), (height, width), params.label_cell)
    return torch.from_numpy(small).to(like.device)


def affinity(run: Run) -> None:
    """Train the affinity network, or take its published weights."""
    params, labels = run.settings.affinity, run.path("confident.zip")
    net, weights = stage.initialise(
        lambda: build_affinity_network(run.settings.affinity), run, "affinity"
    )
    if params.checkpoint:
        runtime = Runtime.start(params.train.precision)
        source, layout = Path(params.checkpoint), affinity_layout(params)
        stage.adopt_published(run, "affinity", net, source, layout, runtime)
        return
    reader = LabelReader(Reader(labels))
    objective = OBJECTIVES[params.kind](net, params)
    stage.train_network(
        run,
        "affinity",
        objective,
        params.augment,
        params.train,
        [labels, *weights],
        reader,
        finish=lambda runtime: rest(run, net, runtime),
    )


def rest(run: Run, net: Network, runtime: Runtime) -> None:
    """Measure IRN's mean displacement on the training images, as published: upper left crops.

    The last incomplete batch is left out, unless it is the only one.
    """
    if not isinstance(net, IRN):
        return
    entries = load_index(run.index).split("train")
    count, side = run.settings.affinity.train.batch, run.settings.affinity.augment.crop_px
    whole = entries[: max(count, len(entries) // count * count)]
    normalise = normalisation(net)

    def crops() -> Iterator[Tensor]:
        for at in range(0, len(whole), count):
            batch = torch.zeros(len(whole[at : at + count]), 3, side, side)
            for image, entry in zip(batch, whole[at:], strict=False):
                corner = normalise(load_image(entry.path)[:side, :side])
                image[:, : corner.shape[1], : corner.shape[2]] = torch.from_numpy(corner)
            yield runtime.send(batch)

    measure_mean(net, crops())
