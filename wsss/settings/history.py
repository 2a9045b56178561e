"""Which layer set a key of a run, and which settings of parameter files a method replaces.

Imports neither torch nor timm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsss.errors import ConfigError
from wsss.settings import MethodNetworkParams, Params, RunSections
from wsss.settings.layers import (
    Layer,
    layers_of_network,
    layers_of_run,
    setters,
    with_presets,
)
from wsss.settings.render import is_usual_line, yaml_value
from wsss.settings.resolve import closest, resolve_settings

DEFAULTS = "default (wsss/settings)"
Combination = tuple[str, str, str]  # dataset, method, protocol


@dataclass(frozen=True)
class Replaced:
    """A setting of a parameter file that a method's own settings replace in some runs."""

    key: str
    source: str
    combination: Combination


def history(files: Sequence[Layer], params: Params, combination: Combination, key: str) -> str:
    """Return the layers that set `key` of a run, in order, one a line; the last one counts.

    files: the layers that `params` were merged from.

    Raises:
        ConfigError: the run has no such key, or it is a section.
    """
    path = _checked(resolve_settings(params, *combination).model_dump(), key)
    layers = layers_of_run(params, *combination)
    defaults = Layer(DEFAULTS, RunSections().model_dump(mode="json"), written=False)
    if path[0] == "networks":
        folders, method = params.methods_path, params.base(combination[1])
        stack = layers_of_network([defaults, *files], layers, method, path[1], folders)
        plain = Layer(DEFAULTS, MethodNetworkParams().model_dump(mode="json"), written=False)
        computed = params.spec(method).networks[path[1]].computed
        rows = setters([plain, *stack] if computed else stack, path[2:])
    else:
        rows = setters([*with_presets([defaults, *files, *layers])], path)
    values = [yaml_value(value) for _, value in rows]
    width = max(map(len, values))
    lines = [
        f"  {value:{width}}  {layer.source}" for value, (layer, _) in zip(values, rows, strict=True)
    ]
    return "\n".join([f"{key} of {'/'.join(combination)}; the last layer counts:", *lines])


def _checked(settings: Mapping[str, object], key: str) -> list[str]:
    """Return the path of a key that the settings of a run have."""
    path = key.split(".")
    inner: object = settings
    for depth, part in enumerate(path):
        if not isinstance(inner, Mapping) or part not in inner:
            names = list(inner) if isinstance(inner, Mapping) else []
            close = closest(part, names)
            listed = f"known are {', '.join(names)}" if names else "it has no keys below it"
            hint = f"did you mean {'.'.join([*path[:depth], close[0]])!r}?" if close else listed
            raise ConfigError(f"unknown key {key}; {hint}")
        inner = inner[part]
    if isinstance(inner, Mapping) and inner:
        raise ConfigError(f"{key} is a section. Name one of its keys: {', '.join(inner)}.")
    return path


def replaced(
    files: Sequence[Layer], params: Params, combinations: Iterable[Combination]
) -> Iterator[Replaced]:
    """Yield each setting of `files` that a method's own settings replace by another value.

    A line of params.yaml that still has its default counts as a default.
    """
    for combination in combinations:
        layers = layers_of_run(params, *combination)
        sections = [*with_presets([*files, *layers])]
        for path in _written(files):
            if path[0] != "classifier":
                stacks = [(sections, path)]
            else:
                method = params.base(combination[1])
                chain = params.spec(method).networks
                stacks = [
                    (
                        layers_of_network(files, layers, method, name, params.methods_path),
                        path[1:],
                    )
                    for name, network in chain.items()
                    if not network.computed
                ]
            sources = {source for stack, below in stacks if (source := _loser(stack, below))}
            yield from (Replaced(".".join(path), source, combination) for source in sources)


def _written(files: Sequence[Layer]) -> list[tuple[str, ...]]:
    """Return the paths of the keys of runs that a person wrote in `files`."""
    paths = {
        path: None
        for layer in files
        for path, value in _leaves(layer.settings)
        if path[0] in RunSections.model_fields and not _is_shipped(layer, path, value)
    }
    return list(paths)


def _is_shipped(layer: Layer, path: Sequence[str], value: object) -> bool:
    """Return whether params.yaml has this line unless somebody changes it."""
    return Path(layer.source).name == "params.yaml" and is_usual_line(".".join(path), value)


def _leaves(
    settings: Mapping[str, object], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], object]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _loser(stack: Sequence[Layer], path: Sequence[str]) -> str | None:
    """Return the source of the last written value at `path`, if a method's own value replaces it."""
    rows = setters(stack, path)
    written = [(layer, value) for layer, value in rows if layer.written]
    if not written or rows[-1][0].written or rows[-1][1] == written[-1][1]:
        return None
    return written[-1][0].source


def sentence(settings: Sequence[Replaced], seed: int, options: str = "") -> str:
    """Return one line that says which settings give way, where, and what to do.

    options: what `wsss params` needs to read the same files.
    """
    first = settings[0]
    places: dict[str, list[str]] = {}
    for setting in settings:
        where = places.setdefault(f"{setting.key} ({setting.source})", [])
        where.append("/".join(setting.combination))
    shown = [
        f"{name} in {where[0]}" + " and others" * (len(where) > 1) for name, where in places.items()
    ]
    more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    run = "/".join(first.combination)
    return (
        f"Settings that give way to a method's own: {'; '.join(shown[:3])}{more}. To change a method's "
        f"own settings write `overrides`; `wsss params --run {run}/s{seed} --why {first.key}{options}` "
        "shows the layers."
    )
