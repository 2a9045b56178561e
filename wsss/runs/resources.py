"""What jobs ask of a cluster: memory that grows at each attempt, and job arrays that cannot hang.

Imports neither torch nor timm: Snakemake reads this before every job.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from wsss.errors import ConfigError
from wsss.runs.run import Run

SMALL_MB = 2000  # of a job with a toy network: torch alone takes 600
SMALL_BACKBONES = ("toy", "vit_toy")
BESIDE_SHARDS = (
    4  # jobs of a run that may wait beside its shards: three evaluations, the next stage
)


def memory(run: Run, stage: str | None, megabytes: int) -> Callable[[int], int]:
    """Return what a job asks for at each attempt (from 1): `megabytes`, or little for toy networks.

    stage: the training whose network the job runs; None for the one that makes CAMs.
    """
    name = stage or str(run.spec.cam_network)
    part: Any = run.settings.networks.get(name) or getattr(run.settings, name)
    first = min(SMALL_MB, megabytes) if part.backbone in SMALL_BACKBONES else megabytes
    return lambda attempt: first * attempt


def check_arrays(runs: Sequence[Run], shards: int, arrays: str | None, jobs: int | None) -> None:
    """Stop where the Slurm executor would wait for ever instead of submitting an array.

    Its version 2.8 drops an array of which fewer tasks have room in the queue than are left out of
    it, so all that can be ready at once must fit. arrays: its setting; jobs: room in the queue.

    Raises:
        ConfigError: naming the number of jobs that is enough.
    """
    needed = len(runs) * (shards + BESIDE_SHARDS)
    if arrays and jobs is not None and jobs < needed:
        raise ConfigError(
            f"--jobs {jobs} is too few for job arrays: {len(runs)} runs in {shards} shards need "
            f"{needed}, or the executor never submits some. Raise `jobs` in the profile, or do "
            "without arrays: --slurm-array-jobs ''."
        )
