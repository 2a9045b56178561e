"""Trainings that die at a chosen step."""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from wsss.training.loop import Trainer


class KilledError(Exception):
    """The end of a training that was killed."""


def killed_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the next training save its state before `step` and die."""
    original = Trainer.step

    def dying(self: Trainer, number: int, parts: Iterator[Mapping[str, Any]]) -> None:
        if number == step:
            self.note_losses()
            self.save(step)
            raise KilledError
        original(self, number, parts)

    monkeypatch.setattr(Trainer, "step", dying)


def killed(train: Callable[[], object], step: int) -> None:
    """Train in a process that saves its state before `step` (from 0) and gets SIGKILL behind it."""
    child = os.fork()
    if not child:
        original = Trainer.step

        def dying(self: Trainer, number: int, parts: Iterator[Mapping[str, Any]]) -> None:
            if number == step:
                self.note_losses()
                self.save(step)
            original(self, number, parts)
            if number == step:
                os.kill(os.getpid(), signal.SIGKILL)

        Trainer.step = dying  # type: ignore[method-assign]  # of the child alone
        with contextlib.suppress(BaseException):
            try:
                train()
            except BaseException:  # noqa: BLE001  # the copy ends here
                traceback.print_exc()
            sys.stderr.flush()
        os._exit(1)  # never back into pytest
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
