"""Where results come from: the commit, the locked packages, CUDA and its driver.

Cheap enough for every record, and without torch: the version of CUDA is that of a torch which the
stage has imported.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from wsss.storage.files import sha256

CHECKOUT = Path(__file__).parents[2]
CODE = ("wsss", "workflow", "Snakefile", "uv.lock")  # what the commit must hold to be the code
DRIVER = Path("/proc/driver/nvidia/version")
SECONDS = 30  # until Git must have answered


class Origin(BaseModel):
    """What a stage ran on; None: not known, or not there.

    lock: SHA-256 of uv.lock. driver: version of the NVIDIA driver.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    lock: str | None = None
    cuda: str | None = None
    driver: str | None = None


def origin() -> Origin:
    """Return what this process runs on."""
    version = getattr(sys.modules.get("torch"), "version", None)
    return Origin(lock=_lock(), cuda=getattr(version, "cuda", None), driver=_driver())


@functools.cache
def commit() -> tuple[str | None, bool | None]:
    """Return the commit of the checkout, and whether its code differs from it; None outside Git."""
    if not (CHECKOUT / ".git").exists():  # a package that is installed in another repository
        return None, None
    command = ["git", "-C", str(CHECKOUT), "status", "--porcelain=v2", "--branch", "--", *CODE]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # several jobs may ask at the same time
    try:
        done = subprocess.run(  # noqa: S603  # fixed arguments
            command, env=environment, capture_output=True, text=True, check=True, timeout=SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None, None
    lines = done.stdout.splitlines()
    commits = [line.split()[-1] for line in lines if line.startswith("# branch.oid")]
    number = next((text for text in commits if text != "(initial)"), None)
    return number, any(not line.startswith("#") for line in lines)


@functools.cache
def _lock() -> str | None:
    path = CHECKOUT / "uv.lock"
    return sha256(path) if path.is_file() else None


@functools.cache
def _driver() -> str | None:
    try:
        match = re.search(r"(\d+\.\d+(?:\.\d+)?)", DRIVER.read_text())
    except OSError:
        return None
    return match.group(1) if match else None
