"""Training on several GPUs or machines: the command restarts itself through torchrun."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence

from wsss.errors import ConfigError
from wsss.machine.gpu_locks import take_gpus
from wsss.machine.gpus import check_gpu_count, gpu_count


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
    return [
        *_on_nodes(gpus // nodes, nodes, environment),
        *torchrun,
        *_rendezvous(nodes, environment),
        *stage,
    ]


def _on_nodes(gpus: int, nodes: int, environment: Mapping[str, str]) -> list[str]:
    """Return the prefix that runs a command once on each machine of a Slurm job.

    gpus: number on each machine. srun would share out the job's GPUs (SLURM_GPUS) by itself, unequally,
    and would give each task one core: since Slurm 22.05 it does not inherit --cpus-per-task.
    """
    if "SLURM_JOB_ID" not in environment:
        raise ConfigError(
            f"--nodes {nodes} needs a Slurm job of as many machines. Run through --profile slurm, or "
            "start torchrun on each machine yourself."
        )
    srun = ["srun", "--overlap", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]
    if cores := environment.get("SLURM_CPUS_PER_TASK"):
        srun.append(f"--cpus-per-task={cores}")
    if "SLURM_GPUS" in environment:
        return ["env", "--unset=SLURM_GPUS", *srun, f"--gres=gpu:{gpus}"]
    return srun


def _rendezvous(nodes: int, environment: Mapping[str, str]) -> list[str]:
    """Return the rendezvous options: the processes of a job meet at a free port of this machine.

    A random name keeps apart the trainings that share a machine, and two starts of one job.
    """
    host = environment.get("SLURMD_NODENAME") or os.uname().nodename
    return [
        f"--nnodes={nodes}",
        f"--rdzv-id={secrets.token_hex(8)}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={host}:{_free_port()}",
    ]


def _free_port() -> int:
    """Return a port that the kernel has chosen among the free ones of this machine."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


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
