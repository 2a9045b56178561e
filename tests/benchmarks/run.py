"""Measure the pipeline's own ways against the field's plain ones: `make bench`.

Each benchmark does the same work both ways in one process, stops if the results are not the same,
and gives the ratio of times and of memory. All are run twice, each time in a process of its own. Give
names to run some of them: python tests/benchmarks/run.py irn_walk crf
"""

import argparse
import dataclasses
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from measure import Row
from page import machine, rewritten, table

# Name -> module and function; imported when wanted, for worker processes read this file too.
BENCHMARKS = {
    "loop": ("training", "loop"),
    "loader": ("training", "loader"),
    "cams": ("cams", "cam_inference"),
    "masks": ("cams", "mask_inference"),
    "pcss": ("tokens", "pcss"),
    "affinity": ("walks", "affinity_loss"),
    "psa_walk": ("walks", "psa"),
    "irn_walk": ("walks", "irn"),  # minutes: the dense side is why
    "crf": ("fields", "dense_crf"),
    "par": ("fields", "pixel_adaptive"),
    "curve": ("scores", "threshold_curve"),
    "confusion": ("scores", "confusion_matrix"),
    "bootstrap": ("scores", "intervals"),
    "store": ("stores", "cam_store"),
    "start": ("stores", "job_start"),
    "nets": ("nets", "arithmetic"),
    "shards": ("shards", "stages"),
    "dag": ("dag", "planning"),
    "fused": ("tried", "one_kernel"),
    "compile": ("tried", "compiled"),
    "lattice": ("tried", "lattices"),
}


def rows(name: str) -> Iterator[Row]:
    """Yield what a benchmark finds, run in a process of its own."""
    command = [sys.executable, __file__, "--here", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield Row(**json.loads(line))
    if process.returncode:
        raise SystemExit(process.returncode)


def here(name: str) -> None:
    """Run a benchmark in this process and print its rows."""
    module, function = BENCHMARKS[name]
    for row in getattr(importlib.import_module(module), function)():
        print(json.dumps(dataclasses.asdict(row)), flush=True)


def main() -> None:
    """Run the benchmarks that are named, or all, twice; print the table, and write it into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(BENCHMARKS)} (all)")
    parser.add_argument(
        "--page", type=Path, help="a page with marks that the table belongs between"
    )
    parser.add_argument("--here", choices=list(BENCHMARKS), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(BENCHMARKS):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # both sides on one thread
    if chosen.here:
        here(chosen.here)
        return
    both: list[list[Row]] = []
    for number in (1, 2):
        both.append([])
        for name in chosen.names or BENCHMARKS:
            for found in rows(name):
                print(f"run {number}: {found}", flush=True)
                both[-1].append(found)
    said = f"{machine()}\n\n{table(*both)}"
    print(f"\n{said}")
    if chosen.page:
        rewritten(chosen.page, said)


if __name__ == "__main__":
    main()
