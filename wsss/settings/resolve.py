"""From parameter files to the settings of one run: read, merge, validate, resolve.

Imports neither torch nor timm: the Snakefile uses this module.
"""

from __future__ import annotations

import difflib
import functools
import itertools
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel, Field, ValidationError

from wsss.errors import ConfigError
from wsss.settings import (
    MethodNetworkParams,
    Params,
    RunSections,
    experiments,
    imports,
    method_spec,
    phrases,
    variants,
)
from wsss.settings.base import RawSettings, merge
from wsss.settings.layers import SECTIONS, Layer, layers_of_network, layers_of_run, merged
from wsss.settings.thresholds import published_thresholds, with_numbers
from wsss.storage import plain_yaml

DRAWN = ("shapes", "stamps")  # datasets whose images the package makes
BUILT_IN = (*DRAWN, "voc12", "coco14", "cub")  # datasets with a section in `data`
STORED = "layers"  # the one key of a file that holds several layers
# New names of settings, by their names before version 0.2: an error message quotes the new name.
RENAMED = {
    "among": ("crf_classes",),
    "bias_factor": ("bias_lr_scale",),
    "decoder": ("decode",),
    "displacement": ("displacement_channels",),
    "edge": ("edge_channels",),
    "energy_weight": ("dense_energy_weight",),
    "final_crops_from": ("last_layer_crops_from",),
    "final_labels_from": ("last_layer_labels_from",),
    "head_bias_factor": ("head_bias_lr_scale",),
    "head_factor": ("head_lr_scale",),
    "horizon": ("schedule_extra_steps",),
    "join": ("merge",),
    "joined_at": ("merge_at",),
    "late_epochs": ("lr_delay_epochs",),
    "localization": ("boxes",),
    "mirror_join": ("mirror_merge",),
    "multiple": ("size_multiple",),
    "multiple_way": ("size_multiple_rounding",),
    "partner": ("auxiliary_cnn",),
    "reduce": ("label_cell",),
    "refresh": ("lr_update_steps",),
    "second_px": ("second_view_px",),
    "settings": ("hyper_parameters",),
    "strong": ("strong_views",),
    "strong_mirror": ("mirror_local_view",),
    "unlisted": ("missing_labels",),
    "whole_px": ("size_rounding",),
    "wraps": ("wrap_negative",),
}
NAMES_ELSEWHERE = {  # what other programs call a key
    "batch_size": ("batch",),
    "crop_size": ("crop_px",),
    "learning_rate": ("lr",),
    "num_epochs": ("epochs",),
    "num_workers": ("workers",),
    "wd": ("weight_decay",),
}
HYPER_PARAMETERS_PLACE = (
    "hyper-parameters belong to a network of a method: write overrides.NAME: {method: METHOD, set: "
    "{networks: {NETWORK: {hyper_parameters: {KEY: VALUE}}}}}"
)
MOVED = dict.fromkeys(
    ("classifier.settings", "classifier.hyper_parameters"), HYPER_PARAMETERS_PLACE
)


class RunSettings(RunSections):
    """The settings of one run, all layers merged; seeds of a run share them."""

    networks: dict[str, MethodNetworkParams] = Field({}, description="the method's chain")


def read_yaml(path: Path) -> RawSettings:
    """Return the mapping in a YAML file; tags that would build objects are errors."""
    try:
        content = plain_yaml.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist. Name a parameter file with --params.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{path} is not valid YAML: {reason}{phrases.yaml_advice(reason)}"
        ) from None
    if not isinstance(content or {}, dict) or not all(
        isinstance(key, str) for key in content or {}
    ):
        raise ConfigError(f"{path} does not hold `key: value` lines. See params.yaml.")
    return content or {}


def read_layers(paths: Sequence[Path]) -> list[Layer]:
    """Return the layers of parameter files, in order.

    A file that the workflow wrote for its jobs holds several layers, with their sources.
    """
    layers = []
    for path in paths:
        content = read_yaml(path)
        if set(content) == {STORED}:
            layers += [Layer(part["source"], part["settings"]) for part in content[STORED]]
        else:
            layers += expanded(Layer(str(path), content))
    return layers


def expanded(layer: Layer) -> list[Layer]:
    """Return a layer after the preset that it names; alone, if it names none."""
    file = experiments.preset_file(layer)
    preset = read_yaml(file) if file else None
    return [*experiments.with_preset(layer, preset, str(file))]


def with_presets(paths: Sequence[Path]) -> list[Path]:
    """Return parameter files, each after the preset that it names."""
    named = [(experiments.preset_file(Layer(str(path), read_yaml(path))), path) for path in paths]
    return [path for pair in named for path in pair if path]


def layers_text(layers: Sequence[Layer]) -> str:
    """Return layers as text for `read_layers`."""
    parts = [{"source": layer.source, "settings": layer.settings} for layer in layers]
    return json.dumps({STORED: parts}, indent=1, default=str) + "\n"


def load_params(paths: Sequence[Path]) -> Params:
    """Read parameter files, each laid over the ones before, and validate the whole."""
    return validate_layers(read_layers(paths), ", ".join(map(str, paths)))


def validate_params(raw: Mapping[str, object], where: str = "the parameters") -> Params:
    """Return the parameters that one layer over the defaults leads to; see `validate_layers`."""
    return validate_layers([Layer(where, raw)], where)


def validate_layers(layers: Sequence[Layer], where: str) -> Params:
    """Return the parameters that layers lead to, over the defaults.

    Raises:
        ConfigError: with every problem at once, each with its key.
    """
    defaults = Params().model_dump()  # a section given in part keeps the rest of its own defaults
    try:
        raw = merged(layers)
    except ConfigError as error:
        raise _listed([str(error)], where) from None
    try:
        params = Params.model_validate(merge(defaults, raw))
    except ValidationError as error:
        raise _listed(describe_problems(error, Params, layers=layers), where) from None
    problems = [*phrases.foreign_paths(raw), *_impossible(params)]
    if problems:
        raise _listed(problems, where)
    return params


def _listed(problems: Sequence[str], where: str) -> ConfigError:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return ConfigError(f"{where} has {count}: " + "; ".join(problems))


def describe_problems(
    error: ValidationError,
    model: type[BaseModel],
    prefix: str = "",
    layers: Sequence[Layer] = (),
) -> list[str]:
    """Return one phrase for each problem: the key, what is wrong, what is allowed.

    layers: if there are several, the phrase names the last one that sets the key.
    """
    problems = []
    for item in error.errors():
        location = item["loc"][:-2] if item["loc"][-1:] == ("[key]",) else item["loc"]
        key = (prefix + ".".join(str(part) for part in location)).rstrip(".")
        if key in MOVED:
            problems.append(f"unknown key {key}; {MOVED[key]}")
        elif item["type"] == "extra_forbidden" and "." in str(item["loc"][-1]):
            *sections, name = str(item["loc"][-1]).split(".")
            nested = f"{name}: {phrases.short(item['input'])}"
            for section in reversed(sections):
                nested = f"{section}: {{{nested}}}"
            problems.append(f"unknown key {key}; write {nested}")
        elif item["type"] == "extra_forbidden":
            siblings = list(_fields_at(model, item["loc"][:-1]))
            close = closest(str(item["loc"][-1]), siblings)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(siblings)}"
            problems.append(f"unknown key {key}; {hint}")
        else:
            problems.append(f"{key}: {phrases.phrase(item)}")
        problems[-1] += _source(layers, location)
    return problems


def _source(layers: Sequence[Layer], location: Sequence[str | int]) -> str:
    """Return ` (in SOURCE)` for the last of several layers that sets a key; else an empty text."""
    keys = list(itertools.takewhile(lambda part: isinstance(part, str), location))
    setting = [layer.source for layer in layers if _has(layer.settings, keys)]
    return f" (in {setting[-1]})" if len(layers) > 1 and setting else ""


def _has(settings: object, keys: Sequence[str | int]) -> bool:
    """Return whether settings have a value at a path of keys."""
    for key in keys:
        if not isinstance(settings, dict) or key not in settings:
            return False
        settings = settings[key]
    return True


def closest(name: str, names: Sequence[str]) -> list[str]:
    """Return, in a list, the name that `name` was renamed to or resembles most; else an empty list."""
    renamed = [new for new in (RENAMED | NAMES_ELSEWHERE).get(name, ()) if new in names]
    return renamed[:1] or difflib.get_close_matches(name, names, 1, cutoff=0.5)


def _fields_at(model: type[BaseModel], location: Sequence[str | int]) -> Iterator[str]:
    """Yield the field names of the model at `location`, a path of keys below `model`."""
    for part in location:
        field = model.model_fields.get(str(part))
        if field is not None:
            model = _model_of(field.annotation) or model
    yield from model.model_fields


def _model_of(annotation: object) -> type[BaseModel] | None:
    candidates = (annotation, *typing.get_args(annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def check_dataset(params: Params, dataset: str) -> None:
    """Raise a `ConfigError` unless the settings describe the dataset."""
    datasets = (*BUILT_IN, *params.data.csv)
    if dataset not in datasets:
        raise ConfigError(
            f"{dataset!r} is not one of {', '.join(datasets)}. Describe it in data.csv."
        )


def _impossible(params: Params) -> Iterator[str]:
    """Yield the problems of parameters that are well typed but cannot be run."""
    datasets = (*BUILT_IN, *params.data.csv)
    yield from _selection("datasets", params.datasets, datasets)
    try:
        methods = method_spec.methods(params.methods_path)
    except ConfigError as error:
        yield str(error)
        return
    yield from imports.problems(params.imports, methods)
    methods = (*methods, *params.imports)
    yield from _selection("methods", params.methods, (*methods, *params.all_variants))
    yield from variants.problems(params.variants, methods)
    yield from _selection("protocols", params.protocols, params.protocols)
    yield from _selection("seeds", params.seeds, params.seeds)
    for name in params.data.csv:
        if name in BUILT_IN:
            yield f"data.csv.{name}: this name is taken by a built-in dataset"
        if not name.replace("-", "").replace("_", "").isalnum():
            yield f"data.csv.{name}: use letters, digits, '-' and '_' alone"
    yield from _unusable_changes(params)
    for dataset, method, protocol in _combinations(params, datasets, methods):
        try:
            resolve_settings(params, dataset, method, protocol)
        except ConfigError as error:
            yield str(error)


def _selection(key: str, chosen: Sequence[object], allowed: Sequence[object]) -> Iterator[str]:
    for name in chosen:
        if name not in allowed:
            listed = [part.strip() for part in str(name).split(",")]
            as_list = f"; write several as [{', '.join(listed)}]" if len(listed) > 1 else ""
            yield f"{key}: {name!r} is not one of {', '.join(map(str, allowed))}{as_list}"
    if not chosen:
        yield f"{key}: name at least one"
    if len(set(chosen)) != len(chosen):
        yield f"{key}: one is listed twice"


def _unusable_changes(params: Params) -> Iterator[str]:
    """Yield the problems of what overrides and variants change, as far as no run is needed."""
    for name, override in params.overrides.items():
        for problem in _unusable(override.set):
            yield f"overrides.{name}.set: {problem}"
    for name, variant in params.variants.items():
        sections = {key.partition(".")[0]: None for key in variant.grid}
        for problem in _unusable({**variant.set, **sections}):
            yield f"variants.{name}: {problem}"


def _unusable(changes: Mapping[str, object]) -> Iterator[str]:
    for key in changes:
        if key not in (*SECTIONS, "networks"):
            close = closest(key, SECTIONS)
            yield f"unknown section {key}" + (f"; did you mean {close[0]!r}?" if close else "")


def _combinations(
    params: Params, datasets: Sequence[str], methods: Sequence[str]
) -> Iterator[tuple[str, str, str]]:
    for dataset in params.datasets:
        for method in params.run_methods:
            if dataset in datasets and params.base(method) in methods:
                for protocol in params.protocols:
                    if params.runs_under(method, protocol):
                        yield dataset, method, protocol


@functools.lru_cache(maxsize=512)
def _resolved(params_json: str, dataset: str, method: str, protocol: str) -> RunSettings:
    params = Params.model_validate_json(params_json)
    where = f"{dataset}/{method}/{protocol}"
    sections: RawSettings = params.model_dump(include=set(SECTIONS))
    layers, folders = layers_of_run(params, dataset, method, protocol), params.methods_path
    base = params.base(method)
    spec = params.spec(base)
    changes, chain = merged(layers), spec.networks
    _check_chain(changes.pop("networks", {}), chain, base, where)
    shared = [Layer("the sections for all runs", sections)]
    problems: list[str] = []
    networks = {}
    for name, network in chain.items():
        stack = layers_of_network(shared, layers, base, name, folders)
        networks[name] = _network(stack, network, f"networks.{name}.", problems)
    try:
        plain = {**merge(sections, changes), "networks": networks}
        settings = RunSettings.model_validate(plain)
        if not calibrates(settings, protocol):
            numbers = with_numbers(settings, published_thresholds(spec))
            settings = RunSettings.model_validate(merge(plain, numbers))
    except ValidationError as error:
        problems = [*describe_problems(error, RunSettings), *problems]
    if problems:
        raise ConfigError(f"{where}: " + "; ".join(problems))
    return settings


def calibrates(settings: RunSections, protocol: str) -> bool:
    """Return whether the thresholds of a run are calibrated, and images are held out of its scores."""
    return protocol == "common" and settings.calibration.by != "none"


def _check_chain(
    networks: Mapping[str, object],
    chain: Mapping[str, method_spec.NetworkSpec],
    method: str,
    where: str,
) -> None:
    """Stop at settings of a network that the method does not have."""
    unknown = set(networks) - set(chain)
    if unknown:
        raise ConfigError(
            f"{where}: networks.{min(unknown)} is not in the chain of {method} "
            f"({', '.join(chain) or 'none'})"
        )


def _network(
    layers: Sequence[Layer], network: method_spec.NetworkSpec, prefix: str, problems: list[str]
) -> RawSettings:
    """Return the settings of one network of a chain from their layers.

    Its hyper-parameters are validated; what is wrong with them is added to `problems`.
    """
    settings: RawSettings = {}
    for layer in layers:
        settings = merge(settings, layer.settings)
    try:
        values = network.model.model_validate(settings["hyper_parameters"])
    except ValidationError as error:
        problems += describe_problems(error, network.model, f"{prefix}hyper_parameters.")
        values = network.model()
    return {**settings, "hyper_parameters": values}


def resolve_settings(params: Params, dataset: str, method: str, protocol: str) -> RunSettings:
    """Return the settings of one run, in which a stage reads its own section alone."""
    return _resolved(params.model_dump_json(), dataset, method, protocol)
