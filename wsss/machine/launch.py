"""One training on several GPUs or machines: the command starts itself again through torchrun."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from wsss.errors import ConfigError

PORT = 29500  # the first of 1000 that meetings are held at, by the number of the job


def command(
    arguments: Sequence[str], gpus: int, nodes: int, environment: Mapping[str, str]
) -> list[str] | None:
    """Return the command that starts `gpus` processes of `wsss ARGUMENTS`; None where one is enough.

    gpus: of all machines together. nodes: machines of the Slurm job that this is in. A process that
    torchrun has started is not started again.

    Raises:
        ConfigError: the GPUs cannot be shared out evenly, or several machines are no Slurm job.
    """
    if "WORLD_SIZE" in environment or (gpus <= 1 and nodes <= 1):
        return None
    if gpus % nodes:
        raise ConfigError(
            f"{gpus} GPUs cannot be shared out among {nodes} nodes. Set the rule's gpu to a multiple."
        )
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={gpus // nodes}"]
    ours = ["-m", "wsss", *arguments]
    if nodes == 1:
        return [*torchrun, "--standalone", *ours]
    return [*_on_nodes(nodes, environment), *torchrun, *_meeting(nodes, environment), *ours]


def _on_nodes(nodes: int, environment: Mapping[str, str]) -> list[str]:
    """Return the start of a command that runs once on each machine of a Slurm job."""
    if "SLURM_JOB_ID" not in environment:
        raise ConfigError(
            f"--nodes {nodes} needs a Slurm job of as many machines. Run through --profile slurm, or "
            "start torchrun on each machine yourself."
        )
    return ["srun", "--overlap", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]


def _meeting(nodes: int, environment: Mapping[str, str]) -> list[str]:
    """Return where the processes of a job find each other: this machine, a port of the job's own."""
    job = environment["SLURM_JOB_ID"]
    host = environment.get("SLURMD_NODENAME") or os.uname().nodename
    return [
        f"--nnodes={nodes}",
        f"--rdzv-id={job}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={host}:{PORT + int(job) % 1000}",
    ]


def start(gpus: int, nodes: int) -> None:
    """Become torchrun where a training wants several processes; else return."""
    wanted = command(_without_counts(sys.argv[1:]), gpus, nodes, os.environ)
    if wanted is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os.execvp(wanted[0], wanted)  # noqa: S606  # this process becomes torchrun


def _without_counts(arguments: Sequence[str]) -> list[str]:
    """Leave out --gpus N and --nodes N, which are torchrun's now."""
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        if word in ("--gpus", "--nodes"):
            next(words, None)
        elif not word.startswith(("--gpus=", "--nodes=")):
            kept.append(word)
    return kept
