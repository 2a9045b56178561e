"""Resources that follow others: the GPUs of a machine or a training, the attempt, the profile's limits.

Imports neither torch nor timm: Snakemake imports this module before every job.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wsss.machine.gpu_locks import DEVICES, visible_gpus

LIMIT = "max_runtime"  # in minutes, a resource that a profile sets for all rules
ON_HEAD = "on_head"  # a resource: 1 lets the head run a rule itself, where it was called
# Short rules without a network: those that `on_head` among the default resources is for.
SHORT = ("convert", "index", "cam", "walk", "instances", "masks", "decode", "results")


def limit_gpus(workflow: Any, devices: Path = DEVICES) -> None:
    """Let jobs of this machine ask for as many GPUs as it has, unless the user set the resource `gpu`.

    Without this limit any number of jobs would start, whatever they ask for. Nothing is limited where
    jobs are submitted to other machines, inside a Slurm job, and on a machine without a GPU.

    devices: the folder with the files of drivers.
    """
    is_local = workflow.resource_settings.nodes is None and "SLURM_JOB_ID" not in os.environ
    if is_local and "gpu" not in workflow.global_resources and (gpus := visible_gpus(devices)):
        workflow.register_resource("gpu", len(gpus))


def per_gpu(workflow: Any, value: int | Callable[[Any, int], int]) -> Callable[..., int]:
    """Return threads or memory of a training, for each of its machines.

    value: what one GPU needs: a number, or a function of wildcards and attempt (from 1).
    """

    def of_job(wildcards: object, attempt: int, **context: Any) -> int:
        context = {"threads": 1, **context, "attempt": attempt}
        resources = workflow.get_rule(context["rulename"]).resources
        gpus, nodes = (
            resources.get(name)
            .evaluate(wildcards, **context)
            .constrain(workflow.global_resources.get(name))
            .value
            for name in ("gpu", "nodes")
        )
        one = value(wildcards, attempt) if callable(value) else value
        return one * max(1, -(-(gpus or 1) // (nodes or 1)))

    return of_job


def growing(workflow: Any, minutes: int) -> Callable[..., int]:
    """Return the runtime of a job in minutes: more at each attempt, but never above `max_runtime`.

    Slurm never starts a job that asks for more time than its partition allows. Rules of a group share
    one job and its time.
    """

    def runtime(wildcards: object, attempt: int, **context: Any) -> int:
        rule = workflow.get_rule(context["rulename"])
        context = {"threads": 1, **context, "attempt": attempt}
        limit = rule.resources.get(LIMIT).evaluate(wildcards, **context).value
        members = sum(other.group == rule.group for other in workflow.rules) if rule.group else 1
        return min(minutes * attempt, max(1, limit // members)) if limit else minutes * attempt

    return runtime


def rules_on_head(workflow: Any) -> list[str]:
    """Return the rules that the profile lets the head run itself, by the resource `on_head`.

    Among the default resources it is meant for short rules without a network alone, though Snakemake
    gives it to every rule.
    """
    values = {rule.name: rule.resources.get(ON_HEAD) for rule in workflow.rules}
    named = workflow.resource_settings.overwrite_resources
    return [
        name
        for name, value in values.items()
        if not value.is_evaluable()
        and value.value
        and (name in SHORT or ON_HEAD in named.get(name, ()))
    ]
