"""What `wsss` answers: the program run in this process as its command line runs it, or in its own."""

import contextlib
import io
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from wsss.cli import main
from wsss.progress import log

REFUSED = 2  # the exit status of what a user can mend


@dataclass(frozen=True)
class Answer:
    """The exit status of a command and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """All that it wrote."""
        return self.out + self.err

    def refuses(self, message: str) -> None:
        """Fail unless it is exit code 2, one line of error and no traceback, and holds `message`."""
        assert "Traceback" not in self.err, self.err
        assert self.code == REFUSED, self
        lines = self.err.splitlines()
        assert [line for line in lines if line.startswith("error: ")] == lines[-1:], self.err
        assert message in self.said, f"{message!r} is not in:\n{self.said}"

    def accepts(self) -> None:
        """Fail unless it succeeded without a traceback."""
        assert self.code == 0, self.said
        assert "Traceback" not in self.err


def wsss(*arguments: str) -> Answer:
    """Run a command in this process, through the program's own entry point."""
    out, err = _stream("strict"), _stream("backslashreplace")
    argv = patch.object(sys, "argv", ["wsss", *arguments])
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), argv, _own_log():
        code = _status()
    for stream in (out, err):
        stream.flush()
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]
    return Answer(code, *texts)


def _stream(errors: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), "utf-8", errors, newline="\n", write_through=True)


def _status() -> int:
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:  # noqa: BLE001  # what Python would print and end with
        traceback.print_exc()
        return 1
    return 0


@contextlib.contextmanager
def _own_log() -> Iterator[None]:
    """Give the messages of the package back to who had them before."""
    before = log.handlers[:], log.level, log.propagate
    try:
        yield
    finally:
        log.handlers[:], log.propagate = before[0], before[2]
        log.setLevel(before[1])


def program(*arguments: str, folder: Path | None = None, **environment: str) -> Answer:
    """Run a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "wsss", *arguments],
        capture_output=True,
        check=False,
        cwd=folder,
        env={**os.environ, **environment},
        timeout=300,
    )
    texts = [part.decode(errors="backslashreplace") for part in (done.stdout, done.stderr)]
    return Answer(done.returncode, *texts)
