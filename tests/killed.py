"""Trainings that die at a chosen step."""

from collections.abc import Iterator, Mapping
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
