"""Train AffinityNet on the affinity labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsss.affinity import affinity_loss, pair_affinities, reduce_labels
from wsss.archive import Reader
from wsss.data import labelmap
from wsss.data.index import Entry
from wsss.nets.affinitynet import AffinityNet
from wsss.plan import Run
from wsss.stages import network as stage
from wsss.train import Objective


class Affinities(Objective):
    """AffinityNet's losses over all pairs of near cells."""

    def __init__(self, net: nn.Module, radius: int) -> None:
        super().__init__()
        self.net, self._radius = net, radius

    def forward(self, batch: Mapping[str, Any], step: int) -> dict[str, Tensor]:
        """Return the terms for background, foreground and unlike pairs."""
        features = self.net(batch["image"]).float()
        masks = batch["mask"].cpu().numpy()
        reduced = torch.from_numpy(reduce_labels(masks, tuple(features.shape[2:])))
        pairs = pair_affinities(features, self._radius)
        return affinity_loss(pairs, reduced.to(features.device))


def build(run: Run) -> AffinityNet:
    """Return the AffinityNet of a run with random weights."""
    params = run.settings.affinity
    return AffinityNet(params.backbone, params.stride, params.channels)


def affinity(run: Run) -> None:
    """Train AffinityNet."""
    params, labels = run.settings.affinity, run.path("confident.zip")
    net, weights = stage.initialise(lambda: build(run), run, "affinity")
    reader = PngReader(Reader(labels))
    objective = Affinities(net, params.radius)
    stage.train(
        run, "affinity", objective, params.augment, params.train, [labels, *weights], reader
    )


class PngReader:
    """Reads the labels of an image from an archive of palette PNGs."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __call__(self, entry: Entry) -> NDArray[np.uint8]:
        """Return labels (H, W)."""
        name = f"{entry.name}.png"
        return labelmap.decode(self._reader.read(name), f"{self._reader.path}/{name}")
