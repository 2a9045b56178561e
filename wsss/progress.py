"""What the user sees while a stage works: a banner, one progress line, an end line."""

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
QUIET_SECONDS = 10.0  # between two lines where the output is no terminal


def setup(level: int = logging.INFO, with_traceback: bool = False) -> None:
    """Send messages of the package to standard error, bare; say whether errors show their origin."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(level)
    log.propagate = False
    global _with_traceback  # noqa: PLW0603  # one process, one command line
    _with_traceback = with_traceback


def fail(message: str) -> NoReturn:
    """End the program with one line and exit code 2; with the traceback where that was asked for."""
    log.error("error: %s", one_line(message), exc_info=_with_traceback)
    sys.exit(2)


def progress(
    items: Iterable[Item], what: str, total: int | None = None, start: int = 0
) -> Iterator[Item]:
    """Yield `items` behind one progress line with rate and time left; plain lines in a log."""
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
