"""Train the segmenter on pseudo labels, or on the true masks for the upper bound."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from wsss.data.images import LabelReader, load_entry_mask
from wsss.data.index import Entry, load_index
from wsss.data.workers import Batch
from wsss.errors import DatasetError
from wsss.machine.runtime import Runtime
from wsss.nets.deeplab import DeepLab, build_deeplab, pixel_loss, segmenter_layout
from wsss.runs.inputs import index_parts
from wsss.runs.run import Run
from wsss.settings import SegmenterParams
from wsss.storage.archive import Reader
from wsss.storage.checkpoint import Layout
from wsss.training.fitting import Choice, changed
from wsss.training.loop import Objective
from wsss.training.session import adopt_published, initialise, train_network


class Segmentation(Objective):
    """Cross-entropy over pixels, a term for every output of the network."""

    def __init__(self, net: DeepLab, params: SegmenterParams) -> None:
        super().__init__()
        self.net = net
        self._align, self._reduce = params.align_corners, params.loss_at == "logits"

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the loss over pixels that are not ignored, a term for each output."""
        net = cast("DeepLab", self.net)
        return {
            name: pixel_loss(logits, batch["mask"], align_corners=self._align, reduce=self._reduce)
            for name, logits in net.outputs(batch["image"]).items()
        }


def initial_segmenter(run: Run, classes: int) -> tuple[DeepLab, list[Path]]:
    """Return the segmenter of a run with its initial weights, and the files of these weights."""
    return initialise(lambda: build_deeplab(run.settings.segmenter, classes), run, "segmenter")


def segmenter(run: Run) -> None:
    """Train the segmenter, or take its published weights."""
    params = run.settings.segmenter
    index = load_index(run.index, *index_parts(run, "segmenter"))
    net, weights = initial_segmenter(run, len(index.classes))
    if params.checkpoint:
        runtime = Runtime.start(params.train.precision)

        def build(choice: Choice) -> tuple[nn.Module, Layout]:
            other = changed(params, choice)
            layout = segmenter_layout(other)  # first: there is none for most backbones
            return build_deeplab(other, choice.classes), layout

        adopt_published(
            run, "segmenter", net, params.checkpoint, segmenter_layout(params), build, runtime
        )
        return
    objective = Segmentation(net, params)
    if run.spec.learns_masks:
        train_network(run, "segmenter", objective, weights, masks=true_mask)
    else:
        labels = run.path("pseudo.zip")
        reader = LabelReader(Reader(labels))
        train_network(run, "segmenter", objective, [labels, *weights], masks=reader)


def true_mask(entry: Entry) -> NDArray[np.uint8]:
    """Return the true labels (H, W) of an image.

    Raises:
        DatasetError: the image has no mask.
    """
    if entry.mask is None:
        raise DatasetError(
            f"Image {entry.name!r} has no mask, so the upper bound cannot be trained. Give it one, or "
            "leave supervised out of `methods`."
        )
    return load_entry_mask(entry)
