"""Claims: which process works on a file, and whether that process is still alive.

A process on this machine is looked up in /proc, and a Slurm job is asked for. For any other process
the age of its claim decides: a process touches its claim once a minute as long as it lives.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from wsss.errors import StorageError, TrainingError
from wsss.machine import slurm
from wsss.progress import log
from wsss.storage.files import write_json

PROC = Path("/proc")
HEARTBEAT_S = 60.0
# A claim that has not been touched for so many heartbeats is that of a dead process.
LOST_HEARTBEATS = 5


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
    def is_alive(self) -> bool | None:
        """Whether the process is still running; None if this machine cannot tell."""
        if self.is_here:
            return bool(self.started) and _started(self.process) == self.started
        return None if self.job is None else slurm.is_active(self.job)

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
def claimed(path: Path, heartbeat_s: float = HEARTBEAT_S) -> Iterator[None]:
    """Hold the claim `path` while the block runs; no other live process can take it meanwhile.

    If another process holds the claim nevertheless, this process is ended by SIGTERM: it would train
    the same network a second time.

    heartbeat_s: seconds after which this process touches its claim again.

    Raises:
        TrainingError: another process holds the claim, and it lives or may live.
    """
    holder, me = read_worker(path), Worker.me()
    if holder is not None and holder != me:
        _check_dead(path, holder)
    _write(path, me, heartbeat_s)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(path, me, heartbeat_s, ended), daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        if read_worker(path) == me:
            path.unlink(missing_ok=True)


def _check_dead(path: Path, holder: Worker) -> None:
    is_alive = holder.is_alive
    if is_alive:
        way = f"scancel {holder.job}" if holder.job else f"kill {holder.process}"
        raise TrainingError(
            f"{path.with_suffix('')} is being trained by another job ({holder}). "
            f"Wait for it, or stop it first: {way}."
        )
    if is_alive is None and (doubt := _doubt(path)):
        raise TrainingError(
            f"{path.with_suffix('')} may be in training by another job ({holder}): {doubt}. If the job "
            f"is gone, delete {path}."
        )


def _doubt(path: Path) -> str | None:
    """Return why the holder of a claim may live, as far as the age of the claim shows it.

    The age is the difference to a file that is made now in the same folder, so that the clocks of
    machines do not matter.
    """
    try:
        heartbeat_s = float(json.loads(path.read_text(encoding="utf-8"))["heartbeat_s"])
    except (OSError, ValueError, TypeError, KeyError):
        return "its claim has no heartbeat"
    with tempfile.TemporaryFile(dir=path.parent) as present, path.open("rb") as claim:
        age_s = os.fstat(present.fileno()).st_mtime - os.fstat(claim.fileno()).st_mtime
    dead_s = LOST_HEARTBEATS * heartbeat_s
    if age_s > dead_s:
        return None
    return f"it gave a sign of life {age_s:.0f} s ago, and counts as dead {dead_s:.0f} s after the last"


def _write(path: Path, worker: Worker, heartbeat_s: float) -> None:
    write_json(path, {"worker": asdict(worker), "heartbeat_s": heartbeat_s})


def _beat(path: Path, me: Worker, heartbeat_s: float, ended: threading.Event) -> None:
    """Touch the claim until `ended`; end this process if another one holds the claim."""
    while not ended.wait(heartbeat_s):
        holder = read_worker(path)
        with suppress(OSError, StorageError):  # the next heartbeat may be written
            if holder is None:
                _write(path, me, heartbeat_s)
            elif holder == me:
                os.utime(path)
        if holder not in (None, me):
            log.error("%s is now trained by another job (%s): this one ends.", path, holder)
            os.kill(me.process, signal.SIGTERM)
            return


def _started(process: int) -> str:
    """Return `boot ID:start time in ticks since boot` of a process; empty if it has ended."""
    try:
        state = (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return "" if state[0] == "Z" else f"{boot}:{state[19]}"
