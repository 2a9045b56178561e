"""Variants of methods, for ablations: a base method with some settings changed, run beside it.

Imports neither torch nor timm.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field

from wsss.settings.base import ListOf, RawSettings, Strict, merge

NAME = re.compile(r"[A-Za-z][\w.-]*")
Value = bool | int | float | str


class Variant(Strict):
    """A method with changed settings, which has runs and rows of its own."""

    method: str = Field(description="the base: a method that `wsss methods` lists")
    protocol: Literal["published", "common"] | None = Field(
        None, description="only runs of this protocol"
    )
    set: RawSettings = Field(
        {}, description="sections to change, as in params.yaml and in `set` of an override"
    )
    grid: dict[str, ListOf[Value]] = Field(
        {},
        description="key, such as walk.beta, -> values; each combination of values is one variant, "
        "whose name is this one's with the values behind it",
    )


def expanded(variants: Mapping[str, Variant]) -> dict[str, Variant]:
    """Return the variants by name, each grid as one variant for every combination of its values."""
    return {name: variant for group in variants for name, variant in _grid(group, variants[group])}


def _grid(name: str, variant: Variant) -> Iterator[tuple[str, Variant]]:
    for values in itertools.product(*variant.grid.values()):
        changes = variant.set
        for key, value in zip(variant.grid, values, strict=True):
            changes = merge(changes, _nested(key, value))
        full = "-".join([name, *map(_word, values)])
        yield full, Variant(method=variant.method, protocol=variant.protocol, set=changes)


def _nested(key: str, value: object) -> RawSettings:
    first, _, rest = key.partition(".")
    return {first: _nested(rest, value) if rest else value}


def _word(value: Value) -> str:
    """Return a value as a part of a name."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def problems(variants: Mapping[str, Variant], methods: tuple[str, ...]) -> Iterator[str]:
    """Yield what is wrong with names and methods of variants; methods: the names of all methods."""
    names = [name for group in variants for name, _ in _grid(group, variants[group])]
    for group, variant in variants.items():
        if variant.method not in methods:
            yield f"variants.{group}.method: {variant.method!r} is not one of {', '.join(methods)}"
        for key, values in variant.grid.items():
            if not values:
                yield f"variants.{group}.grid.{key}: name at least one value"
    for name in dict.fromkeys(names):
        if name in methods:
            yield f"variants.{name}: this name is taken by a method"
        if not NAME.fullmatch(name):
            yield f"variants.{name}: use letters, digits, '.', '-' and '_', with a letter first"
        if names.count(name) > 1:
            yield f"variants.{name}: two variants have this name"
