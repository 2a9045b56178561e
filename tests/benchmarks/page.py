"""The table of two runs of all benchmarks."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from measure import Row

MARKS = ("<!-- measured: from here -->", "<!-- measured: to here -->")
STEADY = 0.15  # the largest difference of a ratio between two runs that a reader has to live with


def machine() -> str:
    """Return what the numbers were measured on."""
    import torch  # noqa: PLC0415  # worker processes import this file too

    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    cores = len(os.sched_getaffinity(0))
    return (
        f"Measured on {cores} cores of an {names[0] if names else platform.machine()}, {gpu}, PyTorch "
        f"{torch.__version__.split('+')[0]}; 32-bit arithmetic, one thread unless it says otherwise."
    )


def table(first: Sequence[Row], second: Sequence[Row]) -> str:
    """Return the rows of two runs in Markdown, and how steady their ratios are.

    second: may lack rows of the first.
    """
    lines = [
        "| what | setting | plain | here | ratio | again | wanted | memory | results |",
        "|---|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    others = {row.what: row for row in second}
    pairs = [(row, others.get(row.what)) for row in first]
    lines += [_line(row, again) for row, again in pairs]
    changes = [
        (abs(again.ratio / row.ratio - 1), row.what)
        for row, again in pairs
        if row.ratio and again and again.ratio
    ]
    unsteady = [f"{what} {change:.0%}" for change, what in changes if change >= STEADY]
    lines += ["", f"Between the two runs no ratio differs by {STEADY:.0%} or more."]
    if unsteady:
        lines[-1] = (
            f"Ratios that differ by {STEADY:.0%} or more between the runs: {', '.join(unsteady)}."
        )
    lines += [line for row, again in pairs for line in _missed(row, again)]
    return "\n".join(lines)


def _line(row: Row, again: Row | None) -> str:
    ratios = [f"{each.ratio:.2f}x" if each and each.ratio else "" for each in (row, again)]
    plain = f"{row.plain:.3g} {row.unit}" if row.plain else ""
    wanted = f"{row.goal:g}x" if row.goal else ""
    here = f"{row.ours:.3g} {row.unit}"
    cells = (row.what, row.setting, plain, here, *ratios, wanted, _memory(row), row.agreement)
    return f"| {' | '.join(cells)} |"


def _missed(row: Row, again: Row | None) -> list[str]:
    """Return what to say of a goal that one of the runs missed."""
    ratios = [each.ratio for each in (row, again) if each and each.ratio]
    if not row.goal or not ratios or min(ratios) >= row.goal:
        return []
    found = " and ".join(f"{ratio:.2f}x" for ratio in ratios)
    return [f"\nMissed: {row.what}, {found} instead of {row.goal:g}x. {row.why}".rstrip()]


def _memory(row: Row) -> str:
    if row.memory is None:
        return ""
    plain, ours = row.memory
    return f"{plain:.0f} -> {ours:.0f} MB"


def unseen() -> str:
    """Return the goals that this machine cannot be measured against."""
    import torch  # noqa: PLC0415  # worker processes import this file too

    if torch.cuda.is_available():
        return ""
    return (
        "\nNot measured, as this machine has no GPU: there, CAM inference against one image at a time "
        "(wanted: 5x, at maps equal to 1e-4, in bf16 to 1e-2), the training loop (0.95x) and the loaders (1x) "
        "against the passes, the walk, and what was tried."
    )


def rewritten(path: Path, said: str) -> None:
    """Replace what stands between the marks of a page."""
    before, _, after = path.read_text().partition(MARKS[0])
    after = after.partition(MARKS[1])[2]
    path.write_text(f"{before}{MARKS[0]}\n\n{said}\n\n{MARKS[1]}{after}")
