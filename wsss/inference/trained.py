"""Trained networks, ready for inference: built, filled with their weights, on the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsss import checkpoint
from wsss.data.normalisation import Normalisation
from wsss.nets.affinitynet import AffinityNet
from wsss.nets.backbone import Network
from wsss.nets.irn import IRN
from wsss.plan import Run
from wsss.runtime import Runtime


def normalisation(net: nn.Module) -> Normalisation:
    """Return how the backbone of a network expects images to be normalised."""
    backbone: Any = net.backbone
    return Normalisation(backbone.mean, backbone.std, backbone.unit, backbone.bgr)


def restore(build: Callable[[], Network], path: Path, runtime: Runtime) -> Network:
    """Return a trained network on the device, in evaluation mode; it learns no more."""
    state, _ = checkpoint.load(path)
    net = build()
    checkpoint.fill(net, state, path)
    runtime.place(net)
    return net.eval().requires_grad_(False)


def without_gradients(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return `forward`, run in inference mode."""

    def forward_pass(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return forward(images)

    return forward_pass


def build_affinity_network(run: Run) -> Network:
    """Return the affinity network of a run with random weights."""
    params = run.settings.affinity
    if params.kind == "irn":
        return IRN(params.backbone, params.stride, params.irn)
    return AffinityNet(params.backbone, params.stride, params.channels)
