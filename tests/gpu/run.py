"""What this GPU does: every stage of every method, rates beside the network alone, parity, equal bytes.

    python tests/gpu/run.py [--page docs/gpu.md] [--budget SECONDS] [--part PART ...] [--method METHOD ...]

prints a table for each part, and writes them into a page. `--device cpu --small` tries the same with
networks of toy size on a processor. The work is done in a folder that is removed at the end.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/benchmarks"), str(ROOT / "tests/gpu")]
PARTS = ("tests", "rates", "stages")  # the short ones first: the last one takes what time is left
BUDGET_S = 460  # of 8 minutes
IMAGES = {"tests": 8, "rates": 512, "stages": 72}  # for training, at full size
SHARES = {
    "tests": 0.2,
    "rates": 0.5,
    "stages": 1.0,
}  # of the budget, at which a part must have ended


def arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="networks and images of toy size")
    parser.add_argument(
        "--budget", type=float, default=BUDGET_S, help="seconds; then nothing begins"
    )
    parser.add_argument(
        "--page", type=Path, help="a page with marks that the tables belong between"
    )
    parser.add_argument("--part", action="append", choices=PARTS, default=[], help="repeatable")
    parser.add_argument("--method", action="append", default=[], help="only this one; repeatable")
    parser.add_argument(
        "--workers", type=int, help="loader processes; default: one per core, up to 14"
    )
    return parser.parse_args()


def checks(device: str, limit_s: float) -> list[str]:
    """Run the tests of this folder and return the lines about them."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    command += ["-k", device, str(ROOT / "tests/gpu")]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=limit_s, cwd=ROOT
        )
        words = done.stdout.strip().splitlines()
        failed = [f"- {line}" for line in words if line.startswith(("FAILED", "ERROR"))]
        said = re.sub(r" in .*", "", words[-1].strip("= ")) if words else done.stderr[-200:]
    except subprocess.TimeoutExpired:
        failed, said = [], "not ended in time"
    return [
        "## Parity and equal bytes",
        "",
        f"Tests of `tests/gpu` on `{device}` (CAMs of every method, segmenter, affinity networks, PAR, bilateral "
        f"filter and random walk as on a processor; two trainings and a resumed one with equal bytes): {said}.",
        *failed,
        "",
    ]


def measure(chosen: argparse.Namespace) -> str:
    """Do the parts in the current folder and return their tables."""
    import bench  # noqa: PLC0415  # torch reads CUDA_VISIBLE_DEVICES when it is imported
    import rates  # noqa: PLC0415
    import stages  # noqa: PLC0415
    from page import machine  # noqa: PLC0415

    began = time.monotonic()
    workers = chosen.workers
    if workers is None:
        workers = 0 if chosen.small else min(14, len(os.sched_getaffinity(0)))
    lines = [machine().partition(";")[0] + f"; {workers} loader processes.", ""]
    Path("pictures").mkdir(exist_ok=True)
    for part in sorted(chosen.part or PARTS, key=PARTS.index):
        left = SHARES[part] * chosen.budget - (time.monotonic() - began)
        measured = bench.Bench.of(chosen.small, workers, left, IMAGES[part])
        measured.draw(Path("pictures"))
        if part == "tests":
            lines += checks(chosen.device, max(left, 1))
        elif part == "rates":
            lines += rates.page(list(rates.rows(measured)))
        else:
            lines += stages.page(list(stages.rows(measured, chosen.method)))
    lines.append(f"All of it took {time.monotonic() - began:.0f} s.")
    return "\n".join(lines)


def main() -> int:
    """Measure in a folder of its own; print the tables, and write the page if one is named."""
    chosen = arguments()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first product
    if chosen.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch  # noqa: PLC0415  # after the choice of the device

    if chosen.device == "cuda" and not torch.cuda.is_available():
        print(
            "error: PyTorch finds no GPU. `wsss doctor` says why; --device cpu --small tries the script."
        )
        return 2
    page = chosen.page.resolve() if chosen.page else None
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        said = measure(chosen)
        os.chdir(ROOT)
    print(said)
    if page:
        from page import rewritten  # noqa: PLC0415

        rewritten(page, said)
    return int(_has_failed(said))


def _has_failed(said: str) -> bool:
    """Return whether a test or a stage failed."""
    failures: Sequence[str] = re.findall(r"(\d+) failed", said)
    return any(int(count) for count in failures)


if __name__ == "__main__":
    sys.exit(main())
