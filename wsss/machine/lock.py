"""Who works on a file: a process on a machine, in a Slurm job or not, and whether it is alive."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from wsss.errors import TrainingError
from wsss.machine import slurm
from wsss.storage.files import write_json

PROC = Path("/proc")


@dataclass(frozen=True)
class Worker:
    """A process. started: of its machine's clock, tells it from a later one with its number."""

    host: str
    process: int
    started: str
    job: str | None = None

    @classmethod
    def me(cls) -> Worker:
        """Return this process."""
        own, task = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
        array = os.environ.get("SLURM_ARRAY_JOB_ID")
        job = f"{array}_{task}" if array and task else own
        return cls(platform.node(), os.getpid(), _started(os.getpid()), job)

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, on this machine."""
        return self.host == platform.node()

    @property
    def is_alive(self) -> bool:
        """Whether it works still; not, if nobody can tell."""
        if self.is_here:
            return bool(self.started) and _started(self.process) == self.started
        return self.job is not None and slurm.is_active(self.job) is True

    def __str__(self) -> str:
        job = f"Slurm job {self.job}, " if self.job else ""
        return f"{job}process {self.process} on {self.host}"


def read_worker(path: Path) -> Worker | None:
    """Return the worker that a file names, or none."""
    try:
        return Worker(**json.loads(path.read_text(encoding="utf-8"))["worker"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Keep `path` while the block runs: others that claim it are refused as long as this one lives.

    Raises:
        TrainingError: another process works on it.
    """
    holder, me = read_worker(path), Worker.me()
    if holder is not None and holder != me and holder.is_alive:
        way = f"scancel {holder.job}" if holder.job else f"kill {holder.process}"
        raise TrainingError(
            f"{path.with_suffix('')} is being trained by another job ({holder}). "
            f"Wait for it, or stop it first: {way}."
        )
    write_json(path, {"worker": asdict(me)})
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _started(process: int) -> str:
    """Return when a process began, in ticks since its machine did, with the machine's boot ID."""
    try:
        state = (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return "" if state[0] == "Z" else f"{boot}:{state[19]}"
