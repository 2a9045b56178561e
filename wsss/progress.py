"""Messages to the user while a stage runs: progress lines and errors."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import NoReturn, TypeVar

from tqdm import tqdm

from wsss.errors import one_line

Item = TypeVar("Item")
log = logging.getLogger("wsss")

_with_traceback = False
QUIET_SECONDS = 10.0  # between two progress lines if the output is not a terminal


def setup(level: int = logging.INFO, with_traceback: bool = False) -> None:
    """Print messages of the package to standard error. with_traceback: errors show their traceback."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(level)
    log.propagate = False
    global _with_traceback  # noqa: PLW0603  # one process, one command line
    _with_traceback = with_traceback


def fail(message: str) -> NoReturn:
    """Print one line (and the traceback, if `setup` asked for it) and exit with code 2."""
    log.error("error: %s", one_line(message), exc_info=_with_traceback)
    sys.exit(2)


def progress(
    items: Iterable[Item], what: str, total: int | None = None, start: int = 0
) -> Iterator[Item]:
    """Yield `items` and show progress: one live line in a terminal, a line every 10 s in a log.

    what: the line's first words. start: how many items were done before.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, what, total=total, initial=start, dynamic_ncols=True, leave=False)
        return
    began = shown = time.monotonic()
    count = total if total is not None else len(items) if isinstance(items, Sized) else None
    for done, item in enumerate(items, start + 1):
        yield item
        now = time.monotonic()
        if now - shown >= QUIET_SECONDS:
            shown = now
            log.info("%s", _line(what, done, count, (done - start) / (now - began)))


def _line(what: str, done: int, total: int | None, rate: float) -> str:
    if total is None:
        return f"{what}: {done}, {rate:.1f}/s"
    left = (total - done) / rate if rate else 0.0
    return f"{what}: {done}/{total} ({100 * done / total:.0f} %), {rate:.1f}/s, {left:.0f} s left"
