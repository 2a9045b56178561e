"""Measure the pipeline's own ways against the field's plain ones: `make bench`.

Each benchmark does the same work both ways in one process, stops if the results are not the same,
and gives the ratio of times and of memory. All are run twice, each time in a process of its own, but for
plans and for what is tried and not used. Give names to run some of them: python tests/benchmarks/run.py irn_walk crf
"""

import argparse
import dataclasses
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

from measure import Row
from page import machine, rewritten, table, unseen

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
    "crf": ("crfs", "dense_crf"),
    "par": ("fields", "pixel_adaptive"),
    "curve": ("scores", "threshold_curve"),
    "confusion": ("scores", "confusion_matrix"),
    "bootstrap": ("scores", "intervals"),
    "store": ("stores", "cam_store"),
    "start": ("stores", "job_start"),
    "nets": ("nets", "arithmetic"),
    "shards": ("shards", "stages"),
    "dag": ("dag", "planning"),
    "groups": ("dag", "grouped"),
    "fused": ("tried", "one_kernel"),
    "compile": ("tried", "compiled"),
    "lattice": ("tried", "lattices"),
}
ONCE = {"dag", "fused", "compile", "lattice"}  # without a ratio of ours


def rows(name: str) -> list[Row]:
    """Return what a benchmark finds, run in a process of its own."""
    command = [sys.executable, __file__, "--here", name]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [Row(**json.loads(line)) for line in said.splitlines()]


class Kept:
    """What runs have found so far, in a file, so that a run that was stopped goes on."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.found = path, dict[tuple[int, str], list[Row]]()
        for line in path.read_text().splitlines() if path and path.exists() else ():
            entry = json.loads(line)
            self.found[entry["run"], entry["name"]] = [Row(**row) for row in entry["rows"]]

    def rows(self, number: int, name: str) -> list[Row]:
        """Return the rows of a benchmark in a run, found now or before."""
        if (number, name) not in self.found:
            self.found[number, name] = found = rows(name)
            if self.path:
                entry = {"run": number, "name": name, "rows": [*map(dataclasses.asdict, found)]}
                with self.path.open("a") as file:
                    file.write(json.dumps(entry) + "\n")
        return self.found[number, name]


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
    parser.add_argument(
        "--rows", type=Path, help="a file that keeps what was found, so that the same call goes on"
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
    kept = Kept(chosen.rows)
    for number in (1, 2):
        both.append([])
        for name in chosen.names or BENCHMARKS:
            if number == 2 and name in ONCE:
                continue
            for found in kept.rows(number, name):
                print(f"run {number}: {found}", flush=True)
                both[-1].append(found)
    said = f"{machine()}\n\n{table(*both)}\n{unseen()}".rstrip()
    print(f"\n{said}")
    if chosen.page:
        rewritten(chosen.page, said)


if __name__ == "__main__":
    main()
