"""Trained networks, ready for inference: built, filled with their weights, on the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from wsss.data.normalisation import Normalisation
from wsss.machine.runtime import Runtime
from wsss.nets import initial
from wsss.nets.backbone import Backbone, Network

Built = TypeVar("Built", bound=Network)


def normalisation(net: nn.Module) -> Normalisation:
    """Return the normalisation of images that the backbone of a network expects."""
    backbone = cast("Backbone", net.backbone)
    return Normalisation(backbone.mean, backbone.std, backbone.unit, backbone.bgr)


def restore(build: Callable[[], Built], path: Path, runtime: Runtime) -> Built:
    """Return a trained network on the device, in evaluation mode and without gradients.

    build: returns the network with arbitrary weights. path: its weights file.
    """
    net = build()
    initial.restore(net, path)
    runtime.place(net)
    return net.eval().requires_grad_(False)


def without_gradients(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return `forward`, run in inference mode."""

    def forward_pass(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return forward(images)

    return forward_pass
