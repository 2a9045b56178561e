"""Time and peak memory of two ways to the same result, in one process, one after the other."""

import ctypes
import gc
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = 4096
PERIOD = 0.001  # seconds between two looks at the memory


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


def report(name: str, plain: Measured, ours: Measured, agreement: str, wall: bool = False) -> None:
    """Print the ratio of two measurements. wall: of wall times, where processes share the work."""
    first, second = (plain.wall_s, ours.wall_s) if wall else (plain.processor_s, ours.processor_s)
    print(
        f"{name}: {first:.2f} s -> {second:.3f} s ({'wall' if wall else 'processor'}), "
        f"ratio {first / second:.1f}x; extra memory {plain.memory_mb:.0f} MB -> "
        f"{ours.memory_mb:.1f} MB, ratio {plain.memory_mb / ours.memory_mb:.1f}x; {agreement}",
        flush=True,
    )
