"""Training on several GPUs or machines: the command restarts itself through torchrun."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from wsss.errors import ConfigError
from wsss.machine.gpu_locks import take_gpus
from wsss.machine.gpus import check_gpu_count, gpu_count

PORT = 29500  # first of 1000 rendezvous ports; the job number selects one


def command(
    arguments: Sequence[str], gpus: int, nodes: int, environment: Mapping[str, str]
) -> list[str] | None:
    """Return the command that starts `gpus` processes of `wsss ARGUMENTS`; None if one is enough.

    gpus: number over all machines. nodes: machines of the current Slurm job. The result is None, too,
    in a process that torchrun has started.

    Raises:
        ConfigError: `gpus` is not a multiple of `nodes`, or several nodes are asked for outside Slurm.
    """
    if "WORLD_SIZE" in environment or (gpus <= 1 and nodes <= 1):
        return None
    if gpus % nodes:
        raise ConfigError(
            f"{gpus} GPUs cannot be shared out among {nodes} nodes. Set the rule's gpu to a multiple."
        )
    torchrun = [sys.executable, "-m", "wsss.machine.torchrun", f"--nproc-per-node={gpus // nodes}"]
    stage = ["-m", "wsss", *arguments]
    if nodes == 1:
        return [*torchrun, "--standalone", *stage]
    return [*_on_nodes(nodes, environment), *torchrun, *_rendezvous(nodes, environment), *stage]


def _on_nodes(nodes: int, environment: Mapping[str, str]) -> list[str]:
    """Return the prefix that runs a command once on each machine of a Slurm job."""
    if "SLURM_JOB_ID" not in environment:
        raise ConfigError(
            f"--nodes {nodes} needs a Slurm job of as many machines. Run through --profile slurm, or "
            "start torchrun on each machine yourself."
        )
    return ["srun", "--overlap", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]


def _rendezvous(nodes: int, environment: Mapping[str, str]) -> list[str]:
    """Return the rendezvous options: processes of a job meet at this machine, at the job's port."""
    job = environment["SLURM_JOB_ID"]
    host = environment.get("SLURMD_NODENAME") or os.uname().nodename
    return [
        f"--nnodes={nodes}",
        f"--rdzv-id={job}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={host}:{PORT + int(job) % 1000}",
    ]


def start(gpus: int, nodes: int) -> None:
    """Replace this process by torchrun if a training needs several processes; else return."""
    torchrun = command(_without_counts(sys.argv[1:]), gpus, nodes, os.environ)
    if torchrun is not None:
        take_gpus(gpus // nodes)
        check_gpu_count(gpus // nodes, gpu_count())
        sys.stdout.flush()
        sys.stderr.flush()
        os.execvp(torchrun[0], torchrun)  # noqa: S606  # this process becomes torchrun


def _without_counts(arguments: Sequence[str]) -> list[str]:
    """Return the arguments without --gpus N and --nodes N, which torchrun takes over."""
    others: list[str] = []
    words = iter(arguments)
    for word in words:
        if word in ("--gpus", "--nodes"):
            next(words, None)
        elif not word.startswith(("--gpus=", "--nodes=")):
            others.append(word)
    return others
