"""What may stand in one table: seeds of a row were made alike, and rows were scored on the same data."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, TypeVar

from wsss.errors import StaleError
from wsss.runs.evaluation import BoxEvaluation, Evaluation
from wsss.runs.run import Run
from wsss.runs.staleness import changes

SHOWN = 3  # differences that a message names


Scores = TypeVar("Scores", bound=Evaluation | BoxEvaluation, covariant=True)


class Scored(Protocol[Scores]):
    """An evaluation with its run and its file."""

    @property
    def run(self) -> Run:
        """The run."""

    @property
    def evaluation(self) -> Scores:
        """The scores."""

    @property
    def path(self) -> Path:
        """The file."""


def check_seeds(first: Scored[Scores], other: Scored[Scores]) -> None:
    """Stop if two seeds of a row differ in their settings, their protocol or their networks.

    Settings are compared only if both files have them; a calibrated threshold may differ.
    """
    keys = list(_differences(first, other))
    if keys:
        more = f"; and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
        raise StaleError(
            f"{first.path} and {other.path} are of one row and have no mean, because they were not made "
            f"alike: {'; '.join(keys[:SHOWN])}{more}. Run `snakemake` again, or name only one of them."
        )


def _differences(first: Scored[Scores], other: Scored[Scores]) -> Iterable[str]:
    """Yield each differing key with its two values."""
    pair = [score.evaluation for score in (first, other)]
    parts = [evaluation.described.settings for evaluation in pair]
    if all(parts):
        yield from _texts(changes(parts[0], parts[1]))
    if not any(parts):  # old files
        was, now = ({"networks": evaluation.described.networks} for evaluation in pair)
        yield from _texts(changes(was, now))
    yield from _texts(_protocols(first, other))


def _protocols(
    first: Scored[Scores], other: Scored[Scores]
) -> Iterable[tuple[str, object, object]]:
    """Return the differing parts of two protocols, of those that both files have."""
    protocols = [score.evaluation.protocol for score in (first, other)]
    shared = protocols[0].model_fields_set & protocols[1].model_fields_set  # old files have fewer
    if getattr(protocols[0], "threshold_choice", "") == "calibrated":
        shared = shared - {"threshold"}
    was, now = (protocol.model_dump(mode="json", include=shared) for protocol in protocols)
    return changes(was, now, "protocol")


def _texts(differences: Iterable[tuple[str, object, object]]) -> Iterable[str]:
    return (f"{key} is {was} and {now}" for key, was, now in differences)


def check_data(scores: Iterable[Scored[Evaluation]]) -> None:
    """Stop if scores of one dataset, protocol and split were measured on other images or masks."""
    firsts: dict[tuple[str, str, str], Scored[Evaluation]] = {}
    for score in scores:
        protocol = score.evaluation.protocol
        if not protocol.data:
            continue  # an old file
        first = firsts.setdefault((score.run.dataset, score.run.protocol, protocol.split), score)
        if first.evaluation.protocol.data != protocol.data:
            raise StaleError(
                f"{first.path} and {score.path} were scored on different images or masks of "
                f"{score.run.dataset}, {protocol.split}. Evaluate both on the same data, or make two "
                "tables."
            )
