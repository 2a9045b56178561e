"""Locks: which process works on a file, and whether that process is still alive."""

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
    """A process, identified by host, PID and start time (PIDs are reused).

    job: its Slurm job, if it runs in one.
    """

    host: str
    process: int
    started: str
    job: str | None = None

    @classmethod
    def me(cls) -> Worker:
        """Return this process."""
        array, task = (os.environ.get(f"SLURM_ARRAY_{key}") for key in ("JOB_ID", "TASK_ID"))
        job = f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")
        return cls(platform.node(), os.getpid(), _started(os.getpid()), job)

    @property
    def is_here(self) -> bool:
        """Whether the process runs, or ran, on this machine."""
        return self.host == platform.node()

    @property
    def is_alive(self) -> bool:
        """Whether the process is still running; False if unknown."""
        if self.is_here:
            return bool(self.started) and _started(self.process) == self.started
        return self.job is not None and slurm.is_active(self.job) is True

    def __str__(self) -> str:
        job = f"Slurm job {self.job}, " if self.job else ""
        return f"{job}process {self.process} on {self.host}"


def read_worker(path: Path) -> Worker | None:
    """Return the worker that a lock file names; None if it names none."""
    try:
        return Worker(**json.loads(path.read_text(encoding="utf-8"))["worker"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Hold the lock file `path` while the block runs; no other live process can claim it meanwhile.

    Raises:
        TrainingError: another live process holds the lock.
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
    """Return `boot ID:start time in ticks since boot` of a process; empty if it has ended."""
    try:
        state = (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return "" if state[0] == "Z" else f"{boot}:{state[19]}"
