"""The networks and pictures of this set: which manifest, how many classes, what array is of what."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from golden import Golden
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from wsss.methods.base import Method, load_method
from wsss.settings import AugmentParams, MethodNetworkParams, method_spec
from wsss.storage import checkpoint

CLOSE = {"rtol": 1e-4, "absolute": 1e-5}
LOOSE = {"rtol": 1e-4, "absolute": 1e-4}


def build(golden: Golden, name: str, data: str = "voc", **settings: Any) -> tuple[Method, Any]:
    """Return a method and its network with the weights of a published file.

    name: mctformer_v1, mctformer_v2, mctformer_plus or pcss. settings: the method's own.
    """
    method_name, _, version = name.partition("_")
    path = golden.checkpoint(f"{name}_{data}", wrapper="model" if version else "")
    classes = checkpoint.load_foreign(path)["cls_token"].shape[1]
    spec = method_spec.spec(method_name)
    published = spec.published["networks"]["classifier"].get("hyper_parameters", {})
    chosen = published | {"drop_path": 0.0} | ({"version": version} if version else {}) | settings
    params = MethodNetworkParams(
        backbone="deit_small_patch16_224",
        stride=16,
        augment=AugmentParams(crop_px=448 if version == "plus" else 224),
        hyper_parameters=method_spec.hyper_parameters(method_name, "classifier", **chosen),
    )
    method = load_method(method_name)({"classifier": params}, classes)
    net = method.build("classifier").eval()
    checkpoint.adopt(net, path, method.layout("classifier"))
    return method, net


def change(method: Method, **values: Any) -> None:
    """Change hyper-parameters of a method's classifier."""
    params = method.params["classifier"]
    changed = params.hyper_parameters.model_copy(update=values)
    network = params.model_copy(update={"hyper_parameters": changed})
    method.params = {"classifier": network}


def sizes(names: Iterable[str]) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Yield the cases HxW_sSEED among the first parts of names, with what they stand for."""
    for case in dict.fromkeys(name.partition("/")[0] for name in names):
        if found := re.fullmatch(r"(\d+)x(\d+)_s(\d+)", case):
            height, width, seed = map(int, found.groups())
            yield case, (height, width, seed)


def thinned(values: ArrayLike | Tensor, like: NDArray[Any]) -> NDArray[Any]:
    """Return every n-th value along each axis, so that as many are left as `like` has."""
    found = values.numpy() if isinstance(values, Tensor) else np.asarray(values)
    steps = [-(-ours // theirs) for ours, theirs in zip(found.shape, like.shape, strict=True)]
    return found[tuple(slice(None, None, step) for step in steps)]


def labels_of(lists: Sequence[Sequence[int]], classes: int) -> Tensor:
    """Return lists of present classes as 0 and 1 (B, classes)."""
    found = torch.zeros(len(lists), classes)
    for row, present in zip(found, lists, strict=True):
        row[list(present)] = 1
    return found


def gradients(net: torch.nn.Module, terms: dict[str, Tensor], names: Iterable[str]) -> list[float]:
    """Return the L2 norm of each parameter's gradient of the sum of terms; 0 where there is none.

    names: as published.
    """
    net.zero_grad()
    torch.stack(list(terms.values())).sum().backward()
    ours = dict(net.named_parameters())
    found = []
    for name in names:
        gradient = ours[name if name.startswith("head.") else f"backbone.{name}"].grad
        found.append(0.0 if gradient is None else gradient.norm().item())
    return found
