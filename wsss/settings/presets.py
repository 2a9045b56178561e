"""Published settings by name, which parameters may start from. Imports neither torch nor timm."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml


@functools.cache
def segmenters() -> dict[str, dict[str, Any]]:
    """Return the presets of `segmenter` by name; each has `about` and `settings`."""
    text = Path(__file__).with_name("segmenters.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return found
