"""Trained networks, ready for inference: built, filled with their weights, on the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsss.data.normalisation import Normalisation
from wsss.machine.runtime import Runtime
from wsss.nets.backbone import Network
from wsss.storage import checkpoint


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
