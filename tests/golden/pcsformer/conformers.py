"""PCSformer's networks with the weights of the set."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden import Golden
from numpy.typing import NDArray
from torch import Tensor, nn

from wsss.methods.pcsformer.method import PCSformer
from wsss.methods.pcsformer.network import ConformerNet
from wsss.settings import Params
from wsss.settings.resolve import resolve_settings
from wsss.storage import checkpoint
from wsss.storage.checkpoint import Layout

CLASSES = 20
EXACT = {"atol": 1e-5}  # in units of the largest value; 1e-4 would hide wrong constants
LOSS = {"rtol": 1e-5}
GRADIENT = {"rtol": 2e-3}  # noise of float32 against float64: up to 6e-4


PUBLISHED = resolve_settings(Params(), "voc12", "pcsformer", "published")


def method(changes: Mapping[str, Mapping[str, Any]] | None = None) -> PCSformer:
    """Return the method with its published settings. changes: of the networks' own."""
    networks = dict(PUBLISHED.networks)
    for name, own in (changes or {}).items():
        settings = networks[name].hyper_parameters.model_copy(update=dict(own))
        networks[name] = networks[name].model_copy(update={"hyper_parameters": settings})
    return PCSformer(networks, CLASSES)


def weights(golden: Golden, manifest: str, rules: str = "") -> Path:
    """Write a checkpoint whose tensors are scaled by the set's rules; return its path."""
    scale = {
        f".*(?:{pattern}).*": factor for pattern, factor in golden.json("weight_rules.json")[rules]
    }
    return golden.checkpoint(manifest, scale)


LOADED: dict[tuple[str, str], ConformerNet] = {}  # networks that were read once, by their weights


def conformer(golden: Golden, stage: str, rules: str = "conformer_s") -> ConformerNet:
    """Return the network of a stage, pc or sp, in evaluation mode; tests share it."""
    key = (stage, rules)
    if key not in LOADED:
        LOADED[key] = trainable(golden, stage, rules)
    return LOADED[key]


def trainable(golden: Golden, stage: str, rules: str = "conformer_s") -> ConformerNet:
    """Return a network of its own, which skips no branch in training."""
    net = method().build(stage).eval()
    path = weights(golden, f"conformer_s_{stage}", rules)
    checkpoint.adopt(net, path, method().layout(stage))
    for layer in net.modules():
        if hasattr(layer, "drop_path"):
            layer.drop_path = 0.0
    return net


def gradient_norms(
    net: nn.Module, loss: Tensor, names: Iterable[str], layout: Layout
) -> list[float]:
    """Return the L2 norms of the gradients of parameters, by their published names."""
    own = dict(net.named_parameters())
    ours = [next(iter(checkpoint.rename({name: torch.zeros(1)}, layout.table))) for name in names]
    found = torch.autograd.grad(loss, [own[name] for name in ours], retain_graph=True)
    return [gradient.double().norm().item() for gradient in found]


def sampled(values: Any, count: int) -> NDArray[Any]:
    """Return `count` entries of an array, evenly spread, as the set keeps them."""
    flat = np.asarray(values).reshape(-1)
    return flat[np.linspace(0, flat.size - 1, count).astype(int)]


def statistics(values: Any) -> list[float]:
    """Return mean, standard deviation, smallest and largest value."""
    found = np.asarray(values, np.float64)
    return [float(f(found)) for f in (np.mean, np.std, np.min, np.max)]


def labels(present: Sequence[Sequence[int]], count: int) -> Tensor:
    """Return labels (B, count) of 0 and 1. present: numbers from 0."""
    found = torch.zeros(len(present), count)
    for row, numbers in zip(found, present, strict=True):
        row[list(numbers)] = 1
    return found


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of the terms of a loss."""
    return torch.stack(list(terms.values())).sum()
