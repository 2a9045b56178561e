"""Resources of cluster jobs: memory that grows with each attempt, and a check of job arrays.

Imports neither torch nor timm: Snakemake imports this module before every job.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wsss.errors import ConfigError
from wsss.runs.checkout import Checkout
from wsss.runs.run import Run, network_settings, stage_kind

SMALL_MB = 2000  # for a job with a toy network; torch alone takes 600 MB
SMALL_BACKBONES = ("toy", "vit_toy", "clip_toy")
# Jobs of a run that may be ready beside its shards: three evaluations, a gathering and the next stage.
BESIDE_SHARDS = 5


def memory(run: Run, stage: str | None, megabytes: int) -> Callable[[int], int]:
    """Return the function attempt (from 1) -> memory in MB: `megabytes` per attempt, less for toys.

    stage: the stage that trains the network of the job; None means the CAM network.
    """
    name = stage or str(run.spec.cam_network)
    part = network_settings(run.settings, name)
    first = min(SMALL_MB, megabytes) if part.backbone in SMALL_BACKBONES else megabytes
    return lambda attempt: first * attempt


def crf_gpus(run: Run, stage: str) -> int:
    """Return how many GPUs a job of affinity labels or pseudo labels asks for: one, for its CRF or PAR."""
    settings = run.settings
    is_refined = {
        "confident": settings.affinity.confident.crf != "none",
        "pseudo": settings.pseudo.is_refined,
    }[stage]
    return int(is_refined and settings.crf.device != "cpu")


def several_machines(workflow: Any) -> dict[str, Callable[..., str | int | None]]:
    """Return resources for a rule with `gpu` and `nodes`: what Slurm needs besides for several machines.

    With `mpi` the executor starts the job's command on the first machine alone, once, and the command
    starts torchrun on all of them; `gres` gives each machine as many GPUs as the others (Slurm shares
    out `gpu` as it likes). On one machine all are None, which Snakemake leaves out.
    """

    def resource(
        value: Callable[[int, int, str | None], str | int],
    ) -> Callable[..., str | int | None]:
        def of_job(wildcards: object, **context: Any) -> str | int | None:
            resources = workflow.get_rule(context["rulename"]).resources
            gpus, nodes, model = (
                resources.get(name).evaluate(wildcards, **context).value
                for name in ("gpu", "nodes", "gpu_model")
            )
            return value(gpus, nodes, model) if nodes > 1 else None

        return of_job

    return {
        "mpi": resource(lambda _gpus, _nodes, _model: "srun"),
        "tasks": resource(lambda _gpus, nodes, _model: nodes),
        "tasks_per_gpu": resource(lambda _gpus, _nodes, _model: 0),
        "gres": resource(gpus_of_each),
    }


def gpus_of_each(gpus: int, nodes: int, model: str | None) -> str:
    """Return Slurm's generic resource for the GPUs that each machine of a job gets."""
    if gpus % nodes or gpus == 0:
        raise ConfigError(
            f"{gpus} GPUs cannot be shared out among {nodes} nodes. Set the rule's gpu to a multiple."
        )
    return ":".join(["gpu", *([model] if model else []), str(gpus // nodes)])


def executor_limits(workflow: object) -> tuple[str | None, int | None]:
    """Return the settings `slurm-array-jobs` and `jobs` of a Snakemake workflow.

    None stands for a setting that is not set, or that this version of Snakemake keeps elsewhere.
    """
    executor = getattr(workflow, "executor_settings", None)
    resources = getattr(workflow, "resource_settings", None)
    return getattr(executor, "array_jobs", None), getattr(resources, "nodes", None)


def lift_rate_limit(workflow: object) -> None:
    """Remove Snakemake's default limit of 100 job starts per second, if this version has it.

    The limit wakes the scheduler once per second more for every job that has ended: after 230 jobs,
    230 times a second. Without the limit, ends of jobs wake it. A limit that the user chose stays.
    """
    scheduler = getattr(workflow, "scheduler", None)
    limit = getattr(scheduler, "job_rate_limiter", None)
    if (getattr(limit, "max_jobs", None), getattr(limit, "timespan", None)) == (100, 1):
        setattr(scheduler, "job_rate_limiter", None)  # noqa: B010  # not declared on `object`


def collect_garbage_rarely() -> None:
    """Let Python look for unused objects less often in this process.

    The graph of 12,000 jobs has millions of objects, none of which is garbage: looking took a fifth of
    the time.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def check_arrays(runs: Sequence[Run], shards: int, arrays: str | None, jobs: int | None) -> None:
    """Stop if the Slurm executor would wait forever instead of submitting an array.

    Executor 2.8 never submits the rest of an array that does not fit into `jobs`, so `jobs` must hold
    every job that can be ready at once. arrays: the executor's setting `slurm-array-jobs`.

    Raises:
        ConfigError: `jobs` is too small; the message names a sufficient number.
    """
    needed = sum(shards * _branches(run) + BESIDE_SHARDS for run in runs)
    if arrays and jobs is not None and jobs < needed:
        raise ConfigError(
            f"--jobs {jobs} is too few for job arrays: {len(runs)} runs in {shards} shards need "
            f"{needed}, or the executor never submits some. Raise `jobs` in the profile, or do "
            "without arrays: --slurm-array-jobs ''."
        )


def _branches(run: Run) -> int:
    """Return how many stages of a run may be computed in shards at once."""
    stages = run.stages()
    independent = [stage for stage in stages if stage_kind(stage) in ("cam", "decode")]
    has_instances = "affinity" in stages and run.settings.affinity.kind == "irn"
    return max(1, len(independent) + has_instances)


def configuration(
    workflow: Any, merged: Mapping[str, Any], checkout: Checkout
) -> tuple[Mapping[str, Any], list[str | Path]]:
    """Return what `--config` sets and the parameter files, in the order in which they are merged.

    A module has what its `config:` gives instead of `--config`, which is of the workflow around it. A
    Snakemake that does not keep the two apart gives its merged configuration.
    """
    if checkout.is_module:
        is_given = getattr(workflow.modifier, "skip_configfile", True)
        return (merged if is_given else {}), [checkout.params_file]
    settings = getattr(workflow, "config_settings", None)
    files = getattr(workflow, "overwrite_configfiles", None)
    if settings is None or files is None:
        return merged, []
    return settings.config, [checkout.params_file, *files]
