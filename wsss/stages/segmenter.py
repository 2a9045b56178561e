"""Train the segmenter on pseudo labels, or on the true masks for the upper bound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from wsss.archive import Reader
from wsss.data.images import load_mask
from wsss.data.index import Entry, load_index
from wsss.errors import DatasetError
from wsss.nets.deeplab import DeepLab, pixel_loss
from wsss.plan import Run
from wsss.stages import network as stage
from wsss.stages.affinity import PngReader
from wsss.train import Objective


class Segmentation(Objective):
    """Cross-entropy against the labels of each pixel."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, batch: Mapping[str, Any], step: int) -> dict[str, Tensor]:
        """Return the loss over pixels that are not ignored."""
        return {"pixels": pixel_loss(self.net(batch["image"]), batch["mask"])}


def build(run: Run, classes: int) -> DeepLab:
    """Return the segmenter of a run with random weights. classes: without background."""
    params = run.settings.segmenter
    return DeepLab(params.backbone, params.stride, classes + 1, params.rates)


def segmenter(run: Run) -> None:
    """Train the segmenter."""
    params, index = run.settings.segmenter, load_index(run.index)
    net, weights = stage.initialise(lambda: build(run, len(index.classes)), run, "segmenter")
    objective = Segmentation(net)
    if run.spec.learns_masks:
        stage.train(run, "segmenter", objective, params.augment, params.train, weights, true_mask)
    else:
        labels = run.path("pseudo.zip")
        reader = PngReader(Reader(labels))
        inputs = [labels, *weights]
        stage.train(run, "segmenter", objective, params.augment, params.train, inputs, reader)


def true_mask(entry: Entry) -> NDArray[np.uint8]:
    """Return the true labels (H, W) of an image; an error if it has none."""
    if entry.mask is None:
        raise DatasetError(
            f"Image {entry.name!r} has no mask, so the upper bound cannot be trained."
        )
    return load_mask(entry.mask)
