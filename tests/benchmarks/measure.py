"""Time and peak memory of two ways to the same result, in one process, in turns."""

from __future__ import annotations

import ctypes
import gc
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

PAGE = 4096
PERIOD = 0.001  # seconds between two looks at the memory
REPEATS = 8  # of the quicker way in a round, at most


@dataclass(frozen=True)
class Measured:
    """What a function returned, its processor and wall time in seconds, its extra memory in MB."""

    result: Any
    processor_s: float
    wall_s: float
    memory_mb: float


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


class Peak(threading.Thread):
    """Look at the memory of this process until told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.highest, self._over = resident(), threading.Event()

    def run(self) -> None:
        """Keep the highest value seen."""
        while not self._over.wait(PERIOD):
            self.highest = max(self.highest, resident())

    def stop(self) -> int:
        """Return the highest value seen."""
        self._over.set()
        self.join()
        return max(self.highest, resident())


def measure(work: Callable[..., Any], *arguments: Any) -> Measured:
    """Run `work` once with its memory watched."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # else freed memory of the run before would be reused
    before, peak = resident(), Peak()
    peak.start()
    wall, processor = time.perf_counter(), time.process_time()
    result = work(*arguments)
    processor, wall = time.process_time() - processor, time.perf_counter() - wall
    return Measured(result, processor, wall, max(peak.stop() - before, PAGE) / 1e6)


def compare(
    plain: Callable[[], Any], ours: Callable[[], Any], rounds: int = 3
) -> tuple[Measured, Measured]:
    """Run both in turns; return of each its first result, shortest times and largest memory.

    The shortest time is the one least disturbed; in turns, both meet the machine in the same mood. In a
    round our way is repeated for as long as the plain one takes, for a short time is disturbed as a whole.
    """
    found: tuple[list[Measured], list[Measured]] = ([], [])
    for _ in range(rounds):
        found[0].append(measure(plain))
        found[1].append(measure(ours))
        times = int(found[0][-1].wall_s / found[1][-1].wall_s)
        found[1].extend(measure(ours) for _ in range(min(times, REPEATS) - 1))
    first, second = (
        Measured(
            own[0].result,
            min(each.processor_s for each in own),
            min(each.wall_s for each in own),
            max(each.memory_mb for each in own),
        )
        for own in found
    )
    return first, second


@dataclass(frozen=True)
class Row:
    """A line of the table: what is compared, under which setting, and what came out.

    memory: extra MB of both ways. goal: the ratio that is wanted; why: where it is missed.
    """

    what: str
    setting: str
    unit: str
    plain: float | None
    ours: float
    memory: tuple[float, float] | None
    agreement: str
    goal: float | None = None
    why: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better our way is: of costs plain over ours, of rates ours over plain."""
        if self.plain is None:
            return None
        return self.ours / self.plain if self.unit.endswith("/s") else self.plain / self.ours

    def __str__(self) -> str:
        memory = ""
        if self.memory:
            plain, ours = self.memory
            memory = f"; memory {plain:.0f} MB -> {ours:.1f} MB, ratio {plain / ours:.1f}x"
        if self.plain is None:
            return f"{self.what} ({self.setting}): {self.ours:.3g} {self.unit}"
        return (
            f"{self.what} ({self.setting}): {self.plain:.3g} {self.unit} -> {self.ours:.3g} "
            f"{self.unit}, ratio {self.ratio:.2f}x{memory}; {self.agreement}"
        )


def row(
    what: str,
    setting: str,
    both: tuple[Measured, Measured],
    agreement: str,
    wall: bool = False,
    goal: float | None = None,
    why: str = "",
) -> Row:
    """Return the line of two measurements. wall: of wall times, where processes share the work."""
    plain, ours = both
    times = (plain.wall_s, ours.wall_s) if wall else (plain.processor_s, ours.processor_s)
    memory = None if wall else (plain.memory_mb, ours.memory_mb)
    unit = "s wall" if wall else "s"
    return Row(what, setting, unit, *times, memory, agreement, goal, why)


def difference(plain: Tensor, ours: Tensor, what: str, most: float) -> str:
    """Say by how much two tensors differ, as a share of the maximum; stop if by more than `most`."""
    found = float((plain - ours).abs().max() / plain.abs().max())
    if not found <= most:
        raise SystemExit(f"{what}: the results differ by {found:.2g} of the maximum")
    return f"equal to {found:.0e}"
