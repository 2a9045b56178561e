"""Published settings of segmenters, by name. Imports neither torch nor timm."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import yaml

from wsss.settings.base import RawSettings


@dataclass(frozen=True)
class SegmenterPreset:
    """Published settings that the section `segmenter` may start from.

    about: a sentence with the source and the published number. settings: keys of `segmenter`.
    """

    about: str
    settings: RawSettings


@functools.cache
def segmenters() -> dict[str, SegmenterPreset]:
    """Return the presets of `segmenter` by name."""
    text = Path(__file__).with_name("segmenters.yaml").read_text(encoding="utf-8")
    return {name: SegmenterPreset(**content) for name, content in yaml.safe_load(text).items()}
