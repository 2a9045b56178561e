"""Resume after the head (the Snakemake process of a run) died, so that no file is written by two jobs.

Jobs of a dead head continue in Slurm, and a new head would submit them a second time. Therefore
`wsss resume` waits for them, or cancels them, before it unlocks the folder.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from wsss.errors import MissingError, StaleError, WsssError
from wsss.machine import slurm
from wsss.machine.lock import PROC, Worker, read_worker
from wsss.progress import log
from wsss.storage.files import read_json, write_json

HEAD = Path(".snakemake/wsss/head.json")
LOGS = Path(".snakemake/log")
RUN_ID = re.compile(r"SLURM run ID: (\S+)")
POLL_S = 30.0  # between two queries of Slurm, whose controller serves all users
LOCAL_POLL_S = 1.0


def note_head(arguments: Sequence[str], folder: str = ".") -> None:
    """Record this process as the head of the working folder; the Snakefile calls this.

    folder: where the head was called with `arguments`, whose paths are relative to it.
    """
    content = {"worker": asdict(Worker.me()), "arguments": list(arguments), "folder": folder}
    write_json(HEAD, content)


def prepare(cancel: bool, is_dead: bool, poll_s: float = POLL_S) -> list[str]:
    """Wait for the jobs of the last head, unlock the folder, and return the head's arguments.

    This process goes to the folder that the head was called in.

    cancel: cancel the jobs instead of waiting for them. is_dead: the user asserts that a head on
    another machine is dead.

    Raises:
        MissingError: no run was started in this folder.
        StaleError: the head is alive, or may be.
    """
    head = read_worker(HEAD)
    if head is None:
        raise MissingError(f"{HEAD} is missing: no run was begun here. Run `snakemake`.")
    _check_dead(head, is_dead)
    _clear(cancel, poll_s)
    content = read_json(HEAD)
    arguments = [str(argument) for argument in content["arguments"]]
    os.chdir(content.get("folder", "."))
    _unlock(arguments)
    return arguments


def _check_dead(head: Worker, is_dead: bool) -> None:
    if head.is_here and head.is_alive:
        raise StaleError(
            f"The run is alive ({head}). Let it end, or stop it with: kill -INT {head.process}."
        )
    if not head.is_here and not is_dead:
        raise StaleError(
            f"The run was begun on {head.host} ({head}), and only that machine knows whether it lives. "
            "Resume there, or add --dead if it is gone."
        )


def _clear(cancel: bool, poll_s: float) -> None:
    """Return as soon as no job of an earlier head is left."""
    names = run_ids()
    cancelled, shown = False, ""
    waiting = slurm.queue(names)
    while True:
        here = list(local_jobs())
        if not waiting and not here:
            return
        if cancel and not cancelled:
            slurm.cancel(waiting)
            for process in here:
                _end(process)
            cancelled = True
        jobs = ", ".join([*(f"{job.number} {job.comment}" for job in waiting), *map(str, here)])
        if jobs != shown:
            log.info("%s: %s", "cancelling" if cancel else "waiting for", jobs)
            shown = jobs
        time.sleep(poll_s if waiting else min(poll_s, LOCAL_POLL_S))
        waiting = slurm.queue(names) if waiting else []  # a dead head submits no more


def run_ids() -> set[str]:
    """Return the Slurm job names that the heads of this folder used; each head has one."""
    logs = sorted(LOGS.glob("*.log"))
    return {name for path in logs for name in RUN_ID.findall(path.read_text(errors="replace"))}


def local_jobs() -> Iterator[int]:
    """Yield the PIDs of stages that run in this folder on this machine."""
    here = Path.cwd()
    for folder in PROC.glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            inside = (folder / "cwd").readlink() == here
        except OSError:
            continue
        if inside and words[1:3] == ["-m", "wsss"] and "resume" not in words:
            yield int(folder.name)


def _end(process: int) -> None:
    try:
        os.kill(process, signal.SIGTERM)
    except ProcessLookupError:
        return


def _unlock(arguments: Sequence[str]) -> None:
    done = subprocess.run(  # noqa: S603  # the user's own arguments
        [*command(arguments), "--unlock"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise WsssError(f"The folder could not be unlocked ({last}). Run `snakemake --unlock`.")


def command(arguments: Sequence[str]) -> list[str]:
    """Return the command that runs Snakemake with `arguments`."""
    return [sys.executable, "-m", "snakemake", *arguments]
