"""What Slurm says of its jobs. Where there is no Slurm, it says nothing."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from wsss.errors import MissingError

TIMEOUT_S = 60
FORMAT = "%i|%j|%T|%k"


@dataclass(frozen=True)
class Job:
    """A job that waits or runs. name: the run ID of the head that submitted it."""

    number: str
    name: str
    state: str
    comment: str


def queue(names: Collection[str]) -> list[Job]:
    """Return the jobs with one of these names that wait or run; none where there is no Slurm.

    Raises:
        MissingError: Slurm is there and does not answer.
    """
    if not names or not shutil.which("squeue"):
        return []
    done = _call("squeue", "--noheader", "--array", f"--format={FORMAT}")
    if done.returncode:
        raise MissingError(
            f"squeue does not answer ({_line(done.stderr)}). Try again when Slurm is up."
        )
    jobs = (Job(*line.split("|", 3)) for line in done.stdout.splitlines())
    return [job for job in jobs if job.name in names]


def is_active(number: str) -> bool | None:
    """Return whether a job waits or runs; None if Slurm does not say."""
    if not shutil.which("squeue"):
        return None
    done = _call("squeue", "--noheader", "--format=%i", f"--jobs={number}")
    if done.returncode:  # a job that it has forgotten is an error
        return False if "Invalid job id" in done.stderr else None
    return bool(done.stdout.strip())


def cancel(jobs: Sequence[Job]) -> None:
    """Cancel jobs."""
    if jobs:
        _call("scancel", *(job.number for job in jobs))


def _call(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603  # Slurm's own commands
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer in {TIMEOUT_S} s")


def _line(text: str) -> str:
    return " ".join(text.split())
