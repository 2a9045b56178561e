"""CRT's networks with the weights of the set, as a run at VOC's published settings has them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from golden import Golden
from numpy.typing import NDArray
from pictures import normalised
from torch import Tensor

from wsss.methods.crt.method import CRT
from wsss.methods.crt.network import CNN, CRTNet
from wsss.settings import Params
from wsss.settings.resolve import resolve_settings
from wsss.storage import checkpoint

Arrays = dict[str, NDArray[Any]]
CLASSES = 20
PUBLISHED = resolve_settings(Params(), "voc12", "crt", "published")
LOCALIZED = resolve_settings(Params(), "cub", "crt_localization", "published")
SMALL = {r".*bn3\.weight": 0.2}  # as the set's README says, so that deep networks stay in range


def thinned(arrays: Arrays, stem: str) -> tuple[NDArray[Any], int]:
    """Return the array `<stem>_every<n>` of a set and n, which is kept of each axis that is thinned."""
    for key in arrays:
        if found := re.fullmatch(rf"{stem}_every(\d+)", key):
            return arrays[key], int(found[1])
    pytest.skip(f"the set has no {stem}")


def method() -> CRT:
    """Return the method with its published settings."""
    return CRT(PUBLISHED.networks, CLASSES)


def network(golden: Golden, auxiliary_cnn: bool = False) -> CRTNet:
    """Return the network with the published transformer and, if asked for, the published CNN."""
    own = method()
    net = own.build("classifier").eval()
    checkpoint.adopt(net, golden.checkpoint("deits_cam"), own.layout("classifier"))
    if auxiliary_cnn:
        checkpoint.adopt(net, golden.checkpoint("res152_cam", SMALL), CNN)
    return net


def batch_of(net: CRTNet, size: Sequence[int], *seeds: int) -> Tensor:
    """Return the pictures of a case as a batch."""
    return normalised(net, [(*size, seed) for seed in seeds])


def labels(classes: Sequence[Sequence[int]]) -> Tensor:
    """Return labels (B, classes) of classes from 0."""
    found = torch.zeros(len(classes), CLASSES)
    for row, present in zip(found, classes, strict=True):
        row[list(present)] = 1
    return found


def gradients(
    golden: Golden, case: str, net: CRTNet, loss: Tensor, norms: Mapping[str, Any], kind: Any
) -> None:
    """Compare the L2 norms of gradients; what has none does not learn.

    kind: the layout of the published names.
    """
    names = {key.removeprefix("grad_norm/"): norm for key, norm in norms.items()}
    ours = checkpoint.rename({name: torch.empty(0) for name in names}, kind.table)
    weights = dict(net.named_parameters())
    kept = [weights[name] for name in ours]
    learn = [weight.requires_grad for weight in kept]
    golden.same(f"{case} what learns", learn, [norm is not None for norm in names.values()])
    chosen = [weight for weight in kept if weight.requires_grad]
    found = torch.autograd.grad(loss, chosen, retain_graph=True)
    measured = [gradient.double().norm().item() for gradient in found]
    wanted = [norm for norm in names.values() if norm is not None]
    golden.close(f"{case} gradients", measured, wanted, rtol=1e-3)
