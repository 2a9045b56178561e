"""Trainings that die at a chosen step."""

import multiprocessing
import os
import signal
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


def killed(train: Callable[..., object], *arguments: object, step: int) -> None:
    """Train in a process that saves its state before `step` (from 0) and gets SIGKILL behind it.

    train: of a module, with arguments that can be pickled. The process is a new one, not a copy of this
    one: PyTorch refuses to compute gradients in a copy once the threads for them have been started.
    """
    child = multiprocessing.get_context("spawn").Process(
        target=_dying, args=(train, arguments, step)
    )
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL


def _dying(train: Callable[..., object], arguments: tuple[object, ...], step: int) -> None:
    original = Trainer.step

    def dying(self: Trainer, number: int, parts: Iterator[Mapping[str, Any]]) -> None:
        if number == step:
            self.note_losses()
            self.save(step)
        original(self, number, parts)
        if number == step:
            os.kill(os.getpid(), signal.SIGKILL)

    Trainer.step = dying  # type: ignore[method-assign]  # of this process alone
    train(*arguments)
