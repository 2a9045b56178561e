"""Files beside the index that all runs on a dataset share: vectors of words, saliency maps.

Imports neither torch nor timm: Snakemake imports this module before every job.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Protocol

from wsss.runs.run import PlainSettings, Run
from wsss.runs.saliency import maps_of
from wsss.runs.texts import texts_of

KINDS = ("text", "saliency")


class SharedFile(Protocol):
    """A file that the command of its kind makes once for a dataset."""

    @property
    def kind(self) -> str:
        """One of KINDS, which is also the command."""

    @property
    def dataset(self) -> str:
        """The name of the dataset."""

    @property
    def name(self) -> str:
        """What tells the file from others of its kind and dataset."""

    @property
    def settings(self) -> PlainSettings:
        """The settings that the file depends on."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def record(self) -> Path:
        """The record of the file."""

    def code(self) -> str:
        """Return the fingerprint of the code that makes the file."""


def shared_files(runs: Iterable[Run], stages: Collection[str] | None = None) -> list[SharedFile]:
    """Return the files that stages of runs read, each once; stages: by default all."""
    planned = list(runs)
    return [*texts_of(planned, stages), *maps_of(planned, stages)]
