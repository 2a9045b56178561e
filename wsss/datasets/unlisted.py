"""Labels of known datasets that a published list of labels lacks."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from wsss.data.index import Entry


@functools.cache
def _known(name: str) -> dict[str, list[str]]:
    path = Path(__file__).with_name(f"unlisted_{name}.json")
    found: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def unlisted(name: str, entry: Entry) -> list[str]:
    """Return the labels of an image that the list called `name` lacks; none: a full list."""
    if name == "none":
        return []
    return [label for label in _known(name).get(entry.name, ()) if label in entry.labels]
