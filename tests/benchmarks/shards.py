"""A stage in one process against the same stage in as many shards as there are cores."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from measure import Row

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow"))
from checkout import RUN, Checkout, fresh_checkout  # noqa: E402  # beside the tests that use it

CORES = len(os.sched_getaffinity(0))
TURNS = 2
PICTURES = {"train": 60, "min_px": 320, "max_px": 500}
ONE_THREAD = ("env", "OMP_NUM_THREADS=1", sys.executable, "-m", "wsss")
WHY = "Each shard starts Python and reads the network; shards of a dataset are longer than these."


def stages() -> Iterator[Row]:
    """Make the CAMs of drawn pictures, and walk over them, in one shard and in several."""
    with tempfile.TemporaryDirectory() as folder:
        checkout = fresh_checkout(Path(folder) / "repository")
        sizes: dict[str, Any] = {"shapes": PICTURES}
        checkout.set(
            {"data": sizes, "walk": {"log2_steps": 8}, "cam": {"scales": [1.0, 0.5, 1.5, 2.0]}}
        )
        checkout.snakemake(f"{RUN}/cam.zip", f"{RUN}/affinity.safetensors")
        for stage, what in (("cam", "CAM inference"), ("walk", "random walk")):
            turns = [
                [_seconds(checkout, stage, count) for count in (1, CORES)] for _ in range(TURNS)
            ]
            plain, ours = (min(times) for times in zip(*turns, strict=True))
            setting = (
                f"{PICTURES['train']} drawn images of 320 to 500 px, toy network, start included"
            )
            title = f"{what}, {CORES} shards at once"
            yield Row(title, setting, "s wall", plain, ours, None, "", 0.75 * CORES, WHY)


def _seconds(checkout: Checkout, stage: str, count: int) -> float:
    """Return how long the shards of a stage take when all are started at once."""
    run = RUN.removeprefix("work/")
    shards = [f"{k + 1}-of-{count}" for k in range(count)]
    began = time.perf_counter()
    with ExitStack() as stack:
        commands = ((*ONE_THREAD, stage, run, "--shard", shard) for shard in shards)
        processes = [stack.enter_context(checkout.running(*command)) for command in commands]
        if any([process.wait() for process in processes]):
            raise SystemExit((checkout.folder / "said.txt").read_text())
        return time.perf_counter() - began
