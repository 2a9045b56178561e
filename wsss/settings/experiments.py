"""The key `preset` of a parameter file: a whole experiment of `params/` below the file's own keys.

Imports neither torch nor timm: the Snakefile uses this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from wsss.errors import ConfigError
from wsss.settings.base import RawSettings
from wsss.settings.layers import Layer
from wsss.settings.render import USUAL, is_usual_line

KEY = "preset"
FOLDER = Path("params")
CHECKOUT = Path(__file__).parents[2]


def preset_file(layer: Layer) -> Path | None:
    """Return the file of the preset that a layer names, if it names one.

    Raises:
        ConfigError: there is no such preset.
    """
    name = layer.settings.get(KEY)
    if name is None:
        return None
    folders = (FOLDER, Path(layer.source).parent / FOLDER, CHECKOUT / FOLDER)
    paths = [folder / f"{name}.yaml" for folder in folders]
    present = next((path for path in paths if path.is_file()), None)
    if present is None:
        names = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
        raise ConfigError(
            f"{layer.source}: {KEY}: {name!r} is not one of {', '.join(names)}, the files of params/"
        )
    return present


def is_whole(settings: Mapping[str, object]) -> bool:
    """Return whether a file has all sections of params.yaml, so its lines are mostly defaults."""
    return {key.partition(".")[0] for key in USUAL} <= set(settings)


def without_defaults(settings: Mapping[str, object], prefix: str = "") -> RawSettings:
    """Return settings without the lines that params.yaml has unless somebody changes them."""
    changed: RawSettings = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            inner = without_defaults(value, f"{prefix}{key}.")
            changed |= {key: inner} if inner else {}
        elif not is_usual_line(f"{prefix}{key}", value):
            changed[key] = value
    return changed


def with_preset(layer: Layer, preset: RawSettings | None, source: str) -> Iterator[Layer]:
    """Yield the layer of a preset, then the layer that names it.

    Of a whole params.yaml only the changed lines count; in a shorter file every line was chosen.
    """
    if preset is None:
        yield layer
    else:
        yield Layer(f"{source}, named in {layer.source}", preset)
        whole = is_whole(layer.settings)
        yield Layer(layer.source, without_defaults(layer.settings) if whole else layer.settings)
