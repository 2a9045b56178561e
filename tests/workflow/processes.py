"""Processes that a test starts: however the test ends, they end with it and are waited for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psutil

SECONDS = 600  # until what a test waits for counts as hanging, also on a busy machine


@contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[psutil.Popen]:
    """Start a process for the time of a block; `options` are those of `subprocess.Popen`."""
    process = psutil.Popen(command, **options)
    try:
        yield process
    finally:
        end(process)


def end(process: psutil.Popen) -> None:
    """Kill a process and its children if it still runs, and wait for it.

    Without this, Python warns of the process whenever the garbage is collected: in another test.
    """
    if process.poll() is None:
        for member in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                member.kill()
    process.wait()
