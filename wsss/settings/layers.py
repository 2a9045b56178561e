"""The layers that the settings of a run are merged from, and which of them set a key.

Each layer is laid over the layers before it, key by key. Imports neither torch nor timm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from wsss.errors import ConfigError
from wsss.settings import Params, RunSections, method_spec, presets
from wsss.settings.base import RawSettings, merge

SECTIONS = tuple(RunSections.model_fields)


@dataclass(frozen=True)
class Layer:
    """Settings from one source, such as a file.

    source: printed to the user. written: by a person, so not a default or a method's own.
    """

    source: str
    settings: Mapping[str, object]
    written: bool = True


def with_presets(layers: Sequence[Layer]) -> Iterator[Layer]:
    """Yield `layers`, each after the segmenter preset that it names.

    So a preset replaces keys of earlier layers, and a key beside its name replaces the preset's.
    """
    for layer in layers:
        name = get(layer.settings, ("segmenter", "preset"))
        if name is not None:
            if not isinstance(name, str) or name not in presets.segmenters():
                raise ConfigError(
                    f"segmenter.preset: {name!r} is not one of {', '.join(presets.segmenters())}"
                )
            preset = presets.segmenters()[name].settings
            source = f"segmenter preset {name}, named in {layer.source}"
            yield Layer(source, {"segmenter": preset}, layer.written)
        yield layer


def merged(layers: Sequence[Layer]) -> RawSettings:
    """Return the settings of `layers` and of the presets that they name, later ones on top."""
    settings: RawSettings = {}
    for layer in with_presets(layers):
        settings = merge(settings, layer.settings)
    return settings


def layers_of_run(params: Params, dataset: str, method: str, protocol: str) -> list[Layer]:
    """Return the layers that lie over the sections of `params` for one run.

    The method's own settings come first, then the overrides that match the run or, for a variant, the
    run of its base, then the variant's changes.
    """
    base, variant = params.base(method), params.all_variants.get(method)
    spec = params.spec(base)
    imported = base in params.imports
    source = f"imports.{base}" if imported else _method_source(base, params.methods_path)
    layers = [Layer(f"{source}: common", spec.common, written=False)]
    if protocol == "published":
        layers.append(Layer(f"{source}: published", spec.published, written=False))
    for name, override in params.overrides.items():
        is_of_method = override.method in (None, base, method)
        is_of_data = override.dataset in (None, dataset)
        if is_of_method and is_of_data and override.protocol in (None, protocol):
            layers.append(Layer(f"overrides.{name}", override.set))
    return [*layers, *([Layer(f"variants.{method}", variant.set)] if variant else [])]


def layers_of_network(
    shared: Sequence[Layer],
    layers: Sequence[Layer],
    method: str,
    name: str,
    folders: tuple[str, ...] = (),
) -> list[Layer]:
    """Return the layers of one network of a method's chain, as changes to `networks.<name>`.

    shared: the layers for all runs, whose `classifier` section is the base of every trained network.
    folders: the user's folders of methods. layers: from `layers_of_run`. In each of them `classifier` comes before `networks.<name>`.
    """
    network = method_spec.spec(method, folders).networks[name]
    source = _method_source(method, folders)
    values = {key: entry.default for key, entry in network.hyper_parameters.items()}
    base = Layer(f"{source}: networks.{name}", {"hyper_parameters": values}, written=False)
    common = Layer(f"{source}: networks.{name}.common", network.common, written=False)
    computed = network.computed
    return [base, *_parts(shared, name, computed), common, *_parts(layers, name, computed)]


def _parts(layers: Sequence[Layer], name: str, computed: bool) -> Iterator[Layer]:
    """Yield what `layers` set in a network; a computed network has no use for `classifier`."""
    for layer in layers:
        for path in (("classifier",), ("networks", name)):
            part = get(layer.settings, path)
            if isinstance(part, Mapping) and not (computed and path == ("classifier",)):
                yield Layer(layer.source, part, layer.written)


def get(settings: Mapping[str, object], path: Sequence[str], absent: object = None) -> object:
    """Return the value at a path of keys in nested settings, or `absent`."""
    value: object = settings
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return absent
        value = value[key]
    return value


def setters(layers: Sequence[Layer], path: Sequence[str]) -> list[tuple[Layer, object]]:
    """Return each layer that sets the key at `path`, with its value, in order; the last counts."""
    missing = object()
    values = ((layer, get(layer.settings, path, missing)) for layer in layers)
    return [(layer, value) for layer, value in values if value is not missing]


def _method_source(method: str, folders: tuple[str, ...]) -> str:
    file, *bases = method_spec.shown_files(method, folders)
    return file + "".join(f" (like {base})" for base in bases)
