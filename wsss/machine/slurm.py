"""Queries to Slurm about its jobs; without Slurm on the machine there are none."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from wsss.errors import MissingError

TIMEOUT_S = 60
FORMAT = "%i|%j|%T|%k"
NAMES = 500  # squeue is asked for no more names at once: a command line has limited length


@dataclass(frozen=True)
class Job:
    """A pending or running job. name: the run ID of the Snakemake process that submitted it."""

    number: str
    name: str
    state: str
    comment: str


def queue(names: Collection[str]) -> list[Job]:
    """Return this user's pending and running jobs with one of `names`; none without Slurm.

    Raises:
        MissingError: Slurm is installed but does not answer.
    """
    if not names or not shutil.which("squeue"):
        return []
    chosen = [f"--name={','.join(sorted(names))}"] if len(names) <= NAMES else []
    done = _call("squeue", "--me", *chosen, "--noheader", "--array", f"--format={FORMAT}")
    if done.returncode:
        raise MissingError(
            f"squeue does not answer ({_line(done.stderr)}). Try again when Slurm is up."
        )
    jobs = (Job(*line.split("|", 3)) for line in done.stdout.splitlines())
    return [job for job in jobs if job.name in names]


def is_active(number: str) -> bool | None:
    """Return whether a job is pending or running; None if unknown."""
    if not shutil.which("squeue"):
        return None
    done = _call("squeue", "--noheader", "--format=%i", f"--jobs={number}")
    if done.returncode:  # squeue fails on jobs that Slurm has forgotten
        return False if "Invalid job id" in done.stderr else None
    return bool(done.stdout.strip())


def cancel(jobs: Sequence[Job]) -> None:
    """Cancel `jobs`."""
    if jobs:
        _call("scancel", *(job.number for job in jobs))


def version() -> str:
    """Return the name and version of the installed Slurm, such as `slurm-wlm 22.05.8`.

    Raises:
        MissingError: the controller does not answer.
    """
    answers = [_call("sinfo", option) for option in ("--version", "--noheader")]
    for answer in answers:
        if answer.returncode:
            errors = answer.stderr.strip() or "sinfo says nothing"
            raise MissingError(
                f"no controller answers ({errors.splitlines()[-1]}). Only --profile slurm needs one; "
                "`scontrol ping` names the machine that is asked."
            )
    return answers[0].stdout.strip()


def _call(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603  # Slurm's own commands
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer in {TIMEOUT_S} s")


def _line(text: str) -> str:
    return " ".join(text.split())
