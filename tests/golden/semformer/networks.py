"""SemFormer's networks with the weights of the set, as a run at VOC's published settings has them."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from golden import Golden
from pictures import normalised
from torch import Tensor, nn

from wsss.methods.semformer.caae import CAAENet
from wsss.methods.semformer.method import SemFormer
from wsss.methods.semformer.network import SemFormerNet
from wsss.settings import MethodNetworkParams, Params
from wsss.settings.resolve import resolve_settings
from wsss.storage import checkpoint
from wsss.storage.checkpoint import Layout

CLASSES = 20
PUBLISHED = resolve_settings(Params(), "voc12", "semformer", "published")


def method(changes: Mapping[str, Any] | None = None) -> SemFormer:
    """Return the method with its published settings. changes: of SemFormer's own."""
    networks: dict[str, MethodNetworkParams] = dict(PUBLISHED.networks)
    own = networks["semformer"]
    settings = own.hyper_parameters.model_copy(update=dict(changes or {}))
    networks["semformer"] = own.model_copy(update={"hyper_parameters": settings})
    return SemFormer(networks, CLASSES)


def caae(golden: Golden) -> CAAENet:
    return cast("CAAENet", loaded(golden, "caae"))


def semformer(golden: Golden) -> SemFormerNet:
    return cast("SemFormerNet", loaded(golden, "semformer"))


def loaded(golden: Golden, name: str) -> nn.Module:
    net = method().build(name).eval()
    checkpoint.adopt(net, golden.checkpoint(name), method().layout(name))
    return net


def batch(net: nn.Module, case: Mapping[str, Any]) -> Tensor:
    """Return the pictures of a case with height, width and image_seeds."""
    return normalised(net, [(case["height"], case["width"], seed) for seed in case["image_seeds"]])


def labels(classes: Sequence[Sequence[int]]) -> Tensor:
    """Return labels (B, classes) of classes from 1."""
    found = torch.zeros(len(classes), CLASSES)
    for row, present in zip(found, classes, strict=True):
        row[[number - 1 for number in present]] = 1
    return found


def gradients(
    net: nn.Module, layout: Layout, loss: Tensor, names: Sequence[str]
) -> list[float | None]:
    """Return the L2 norms of the gradients of published parameters; none where there is no gradient."""
    empty = {name: torch.empty(0) for name in names}
    weights = dict(net.named_parameters())
    ours = [weights[name] for name in checkpoint.rename(empty, layout.table)]
    found = torch.autograd.grad(loss, ours, retain_graph=True, allow_unused=True)
    return [None if gradient is None else gradient.double().norm().item() for gradient in found]


def thin(values: Any, steps: Sequence[int]) -> Any:
    """Return every n-th entry along each axis, as the set keeps them."""
    return values[tuple(slice(None, None, step) for step in steps)]
