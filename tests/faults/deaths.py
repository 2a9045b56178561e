"""Let a command die as it opens, renames or removes a file, run it again, and compare all files.

The command runs in a copy of this process, which has the libraries loaded, and is killed by the
system's own signal, so nothing of it is tidied up.
"""

import contextlib
import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kills import Outcome

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate")
COUNT = "moments"  # the file with the number of moments, beside the folder of a command
SAID = "said.txt"  # the file with what a command said
Tree = dict[str, bytes]
Action = Callable[[], int]  # what a command does; returns its exit status


@dataclass(frozen=True)
class Ending:
    """How a command ended: its exit status, negative for a signal, and how many moments it had."""

    status: int
    moments: int
    said: str


def is_change(event: str, arguments: tuple[object, ...], folder: str) -> bool:
    """Return whether an event of Python's audit changes a file in a folder."""
    if event == "open":
        path, _, flags = arguments
        if not (isinstance(flags, int) and flags & WRITING):
            return False
    elif event in CHANGES:
        path = arguments[0]
    else:
        return False
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    return os.path.abspath(os.fsdecode(path)).startswith(f"{folder}{os.sep}")  # noqa: PTH100  # links stay


def forked(action: Action, folder: Path, moment: int | None = None) -> Ending:
    """Run an action in a copy of this process, in a folder. moment: the number of the change at which it dies."""
    beside = folder.parent
    (beside / COUNT).write_text("0")
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _live(action, folder, moment, beside)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = (beside / SAID).read_text(errors="replace")
    return Ending(status, int((beside / COUNT).read_text()), said)


def _live(action: Action, folder: Path, moment: int | None, beside: Path) -> None:
    """Be the copy: run the action, count its changes, and end without returning."""
    status, count, root = 1, 0, str(folder.resolve())
    with contextlib.suppress(BaseException):
        os.setsid()
        os.chdir(folder)
        said = os.open(beside / SAID, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for stream in (1, 2):
            os.dup2(said, stream)

        def watch(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            if is_change(event, arguments, root):
                count += 1
                if count == moment:
                    _end(event, arguments)

        sys.addaudithook(watch)
        try:
            status = action()
        except BaseException:  # noqa: BLE001  # the copy ends here
            os.write(2, traceback.format_exc().encode(errors="replace"))
        (beside / COUNT).write_text(str(count))
    os._exit(status)


def _end(event: str, arguments: tuple[Any, ...]) -> None:
    """Die before a change; a file that would be opened is opened first, so it is still empty."""
    if event == "open":
        path, _, flags = arguments
        os.open(path, flags, 0o666)
    os.kill(os.getpid(), signal.SIGKILL)


def tree(folder: Path) -> Tree:
    """Return the content of every file in a folder, by its path; times of stages are left out."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {
        path.as_posix(): (folder / path).read_bytes()
        for path in files
        if path.parts[0] != "benchmarks"
    }


def is_hidden(name: str) -> bool:
    """Return whether a file is one that only a killed process leaves, or a state to go on from."""
    parts = name.split("/")
    return any(part.startswith(".") for part in parts) or "state" in parts


def broken(after_death: Tree, before: Tree, after: Tree) -> Iterator[str]:
    """Yield the visible files that are neither as before a command nor as after it."""
    for name, content in after_death.items():
        if not is_hidden(name) and content not in (before.get(name), after.get(name)):
            yield f"{name} is neither old nor new"


def unequal(expected: Tree, found: Tree) -> Iterator[str]:
    """Yield what is missing, left over or has other bytes."""
    yield from (f"{name} is missing" for name in sorted(expected.keys() - found.keys()))
    yield from (f"{name} is left over" for name in sorted(found.keys() - expected.keys()))
    for name in sorted(expected.keys() & found.keys()):
        if expected[name] != found[name]:
            yield f"{name} has other bytes"


@dataclass(frozen=True)
class Trial:
    """A command that dies: what it is counted as, what there was before and is after it, where it dies."""

    action: Action
    kind: str
    name: str
    before: Path
    after: Tree
    folder: Path


def die(trial: Trial, moment: int) -> Outcome:
    """Let a command die at a moment in a copy of what was before it, run it again, and compare."""
    folder, after = trial.folder, trial.after
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(trial.before, folder, symlinks=True)
        death = forked(trial.action, folder, moment)
        if death.status or death.moments >= moment:
            break
        # A training that is faster than undisturbed saves its state less often.
        moment = death.moments
    outcome = Outcome(trial.kind, f"at change {moment} of {trial.name}")
    if death.status != -signal.SIGKILL:
        outcome.faults.append(f"it ended by itself with {death.status}")
    outcome.faults += broken(tree(folder), tree(trial.before), after)
    again = forked(trial.action, folder)
    if again.status:
        outcome.faults.append(f"the rerun failed: {again.said[-300:]}")
    outcome.faults += unequal(after, tree(folder))
    return outcome


def deaths(
    action: Action, kind: str, name: str, folder: Path, count: int, chance: random.Random
) -> Iterator[Outcome]:
    """Run an action in a folder, and yield what became of some deaths of it in copies.

    kind: what it is counted as. count: how many deaths; the last change, which makes a result visible, is always among them.

    Raises:
        RuntimeError: the action fails, undisturbed.
    """
    before, copy = folder.with_name("before"), folder.with_name("copy")
    shutil.rmtree(before, ignore_errors=True)
    shutil.copytree(folder, before, symlinks=True)
    ending = forked(action, folder)
    if ending.status:
        raise RuntimeError(f"{name} failed: {ending.said}")
    moments = range(1, ending.moments + 1)
    chosen = sorted({*chance.sample(moments, min(count - 1, len(moments))), *moments[-1:]})
    trial = Trial(action, kind, name, before, tree(folder), copy)
    yield from (die(trial, moment) for moment in chosen)
