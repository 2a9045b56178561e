"""The losses of all trainings, read from the logs beside the networks and thinned for plots."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from wsss.errors import MissingError
from wsss.runs.run import Run
from wsss.storage.files import absent

POINTS = 200  # of one training; more would be invisible and make the files large


class Loss(NamedTuple):
    """One point of a loss curve: mean loss of the steps up to `step`."""

    run: str
    network: str
    step: int
    loss: float


HEADS = Loss._fields


def loss_rows(runs: Iterable[Run]) -> list[Loss]:
    """Return the losses of all networks; a long training is averaged over equal spans of steps.

    A network that a variant shares with its base is the base's alone.
    """
    return [
        Loss(str(run), stage, step, loss)
        for run in runs
        for stage in run.trained
        if stage not in run.shared
        for step, loss in thin(read(run.path(f"{stage}.csv")), POINTS)
    ]


def read(path: Path) -> list[tuple[int, float]]:
    """Return (step, loss) of every line of a training's log."""
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            return [(int(line["step"]), float(line["loss"])) for line in csv.DictReader(lines)]
    except FileNotFoundError:
        raise absent(path) from None
    except (KeyError, TypeError, ValueError) as error:
        raise MissingError(
            f"{path} is not a training log ({error}). Delete it and run again."
        ) from None


def thin(points: list[tuple[int, float]], count: int) -> list[tuple[int, float]]:
    """Return at most `count` points: the last step and the mean loss of spans of equal length."""
    length = -(-len(points) // count) or 1
    spans = (points[start : start + length] for start in range(0, len(points), length))
    return [(span[-1][0], round(statistics.fmean(loss for _, loss in span), 6)) for span in spans]
