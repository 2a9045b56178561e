"""Image labels that a published list of labels leaves out, per dataset."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from wsss.data.index import Entry


@functools.cache
def _missing_by_image(list_name: str) -> dict[str, list[str]]:
    path = Path(__file__).with_name(f"unlisted_{list_name}.json")
    labels: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    return labels


def missing_labels(list_name: str, entry: Entry) -> list[str]:
    """Return the labels of an image that a published list leaves out; with the name `none` there are none."""
    if list_name == "none":
        return []
    missing = _missing_by_image(list_name).get(entry.name, ())
    return [label for label in missing if label in entry.labels]
