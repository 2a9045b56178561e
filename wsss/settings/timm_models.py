"""The networks that the installed timm offers, read off its source: importing it takes seconds.

Imports neither torch nor timm: the workflow checks the names of backbones with it.
"""

from __future__ import annotations

import difflib
import functools
import importlib.util
import re
from pathlib import Path

# Modules of timm with plain transformers, whose patches are the cells of one feature map at any size.
PLAIN_TRANSFORMERS = ("vision_transformer", "eva", "deit")
MODEL = re.compile(r"^@register_model\s*\n(?:@[^\n]*\n)*def (\w+)\(", re.MULTILINE)
PATCH = re.compile(r"_patch(\d+)(?:_|$)")
SHARE_OF_LETTERS = 0.7  # that two near names have in common, in the same order
LONG_WORD = 4  # letters from which on a word in common makes names near
MOST_NEAR = 4


@functools.cache
def _sources() -> dict[str, str]:
    """Return the source of timm's modules of networks by name; empty if timm is not installed."""
    spec = importlib.util.find_spec("timm")
    folders = spec.submodule_search_locations if spec else None
    paths = [path for folder in folders or () for path in Path(folder, "models").glob("*.py")]
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(paths)}


@functools.cache
def module_of(name: str) -> str | None:
    """Return the module of timm that has a network, with or without the tag of its weights."""
    architecture = name.partition(".")[0]
    for module, text in _sources().items():
        if f"def {architecture}(" in text and architecture in MODEL.findall(text):
            return module
    return None


def patch_of(name: str) -> int | None:
    """Return the side of the patches of one of timm's plain transformers, if its name says it."""
    match = PATCH.search(name.partition(".")[0])
    return int(match[1]) if match and module_of(name) in PLAIN_TRANSFORMERS else None


@functools.cache
def problem(name: str) -> str:
    """Return what is wrong with the name of a network of timm; empty for one that timm builds."""
    sources = _sources()
    if not sources or ":" in name:  # no timm to ask, or a network of the hub
        return ""
    architecture, _, tag = name.partition(".")
    module = module_of(name)
    if module is None:
        renamed = re.search(rf"'{re.escape(name)}': '([\w.]+)'", "\n".join(sources.values()))
        if renamed:
            return f"timm calls {name} {renamed[1]} now"
        return f"timm has no network {architecture!r}{_near_models(architecture)}"
    tags = re.findall(rf"[\"']{architecture}\.([\w.-]+)[\"']", sources[module])
    if tag and tags and tag not in tags:
        near = difflib.get_close_matches(tag, tags, MOST_NEAR) or sorted(set(tags))[:MOST_NEAR]
        return f"timm has no weights {tag!r} of {architecture}; did you mean {' or '.join(near)}?"
    return ""


def _near_models(name: str) -> str:
    """Return a question with the names that are nearest to one that timm does not have."""
    names = [model for text in _sources().values() for model in MODEL.findall(text)]
    near = difflib.get_close_matches(name, names, MOST_NEAR, SHARE_OF_LETTERS)
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if len(word) >= LONG_WORD]
    if not near:
        near = sorted((model for model in names if any(word in model for word in words)), key=len)
    return f"; did you mean {' or '.join(near[:MOST_NEAR])}?" if near else ""
