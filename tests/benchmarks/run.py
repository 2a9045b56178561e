"""Measure the pipeline's own ways against the field's plain ones: `make bench`.

Each prints time, memory and their ratios, and stops if the results are not the same. Give names to
run some of them: python tests/benchmarks/run.py irn_walk crf
"""

import importlib
import os
import sys

# Name -> module and function; imported when wanted, for worker processes read this file too.
BENCHMARKS = {
    "psa_walk": ("walks", "psa"),
    "curve": ("scores", "threshold_curve"),
    "crf": ("fields", "dense_crf"),
    "cams": ("cams", "cam_inference"),
    "pcss": ("tokens", "pcss"),
    "irn_walk": ("walks", "irn"),  # minutes: the dense side is why
}


def main(names: list[str]) -> None:
    """Run the benchmarks called `names`, or all."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # both sides on one thread
    for name in names or BENCHMARKS:
        if name not in BENCHMARKS:
            raise SystemExit(f"There is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}.")
        module, function = BENCHMARKS[name]
        getattr(importlib.import_module(module), function)()


if __name__ == "__main__":
    main(sys.argv[1:])
