"""`python -m wsss`, and the program `wsss`: the command as a process of its own.

A job of seconds would spend one of them on what Python does around it: it looks for garbage again and again
while half a million objects are imported, and takes them all apart at the end. This process does neither.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys

OBJECTS = 50_000  # made before Python looks for garbage among them; by default 700

_status: int | None = None  # of the command; None: it failed in a way that Python reports itself


def run() -> None:
    """Run the command and end the process with its exit status."""
    global _status  # noqa: PLW0603  # of the one command of this process
    gc.set_threshold(OBJECTS)
    atexit.register(_end)  # before anything else is, so that it comes after all else

    from wsss.cli import main  # noqa: PLC0415  # after the two lines above

    try:
        main()
        _status = 0
    except SystemExit as end:
        _status = end.code or 0 if isinstance(end.code, int | None) else None
        raise


def _end() -> None:
    """End the process at once: what was opened is closed by now, and memory is given back as a whole."""
    if _status is None:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # Python says so itself
        return
    os._exit(_status)


if __name__ == "__main__":
    run()
