"""The record beside every artifact: what made it, from what, with which settings and code."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsss.runs.run import Run
from wsss.storage.files import sha256, write_json

VERSIONED = ("torch", "timm", "numpy", "pillow", "pydensecrf2")


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of what can change numbers, and of Python."""
    found = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@dataclass
class Recorder:
    """Collects what a record says while a stage runs; the clock starts with it."""

    stage: str
    params: Mapping[str, Any]
    code: str
    seed: int | None = None
    device: str = "cpu"
    started: float = field(default_factory=time.monotonic)

    def write(
        self, path: Path, inputs: Iterable[Path], outputs: Iterable[Path], **content: Any
    ) -> dict[str, Any]:
        """Write the record of a finished stage and return it."""
        record = {
            "stage": self.stage,
            "params": dict(self.params),
            "code": self.code,
            "seed": self.seed,
            "inputs": {item.as_posix(): sha256(item) for item in inputs},
            "outputs": {item.as_posix(): sha256(item) for item in outputs},
            "versions": versions(),
            "device": self.device,
            "wall_s": round(time.monotonic() - self.started, 2),
            **content,
        }
        write_json(path, record)
        return record


def recorder(run: Run, stage: str, device: str = "cpu") -> Recorder:
    """Start the record of a stage of a run."""
    return Recorder(stage, run.slice(stage), run.code(stage), run.seed, device)
