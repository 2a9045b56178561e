"""From params.yaml to the settings of one run: merge, validate once, resolve.

Imports neither torch nor timm: the Snakefile uses this module.
"""

from __future__ import annotations

import difflib
import functools
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from wsss.errors import ConfigError
from wsss.settings import MethodNetworkParams, Params, RunSections, method_spec, presets
from wsss.settings.base import merge
from wsss.storage import plain_yaml

DRAWN = ("shapes", "stamps")  # datasets whose images the package makes
BUILT_IN = (*DRAWN, "voc12", "coco14", "cub")  # datasets that have a section in `data`
SECTIONS = tuple(RunSections.model_fields)
# Settings by their names of before version 0.2: an old name is answered with the new one.
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
HYPER_PARAMETERS_PLACE = (
    "hyper-parameters belong to a network of a method: write overrides.NAME: {method: METHOD, set: "
    "{networks: {NETWORK: {hyper_parameters: {KEY: VALUE}}}}}"
)
MOVED = dict.fromkeys(
    ("classifier.settings", "classifier.hyper_parameters"), HYPER_PARAMETERS_PLACE
)


class RunSettings(RunSections):
    """The resolved settings of one run: dataset x method x protocol."""

    networks: dict[str, MethodNetworkParams] = Field({}, description="the method's chain")


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; tags that would build objects are refused."""
    try:
        content = plain_yaml.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist. Name a parameter file with --params.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content or {}, dict) or not all(
        isinstance(key, str) for key in content or {}
    ):
        raise ConfigError(f"{path} does not hold `key: value` lines. See params.yaml.")
    return content or {}


def load_params(paths: Sequence[Path]) -> Params:
    """Read parameter files, each laid over the ones before, and validate the whole."""
    raw: dict[str, Any] = {}
    for path in paths:
        raw = merge(raw, read_yaml(path))
    return validate_params(raw, ", ".join(map(str, paths)))


def validate_params(raw: Mapping[str, Any], where: str = "the parameters") -> Params:
    """Return validated parameters.

    Raises:
        ConfigError: with every problem at once, each with its key.
    """
    defaults = Params().model_dump()  # a section given in part keeps the rest of its own defaults
    try:
        raw = _with_preset(raw, defaults)
    except ConfigError as error:
        raise _listed([str(error)], where) from None
    try:
        params = Params.model_validate(merge(defaults, raw))
    except ValidationError as error:
        raise _listed(describe_problems(error, Params), where) from None
    problems = list(_impossible(params))
    if problems:
        raise _listed(problems, where)
    return params


def _with_preset(raw: Mapping[str, Any], defaults: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `raw` with the preset that its segmenter names, if any, under the segmenter's own keys.

    Of those, the ones that have the default's value give way to the preset: params.yaml has them all.
    `defaults` is empty where every key was written by a person, as in overrides.
    """
    own = raw.get("segmenter")
    name = own.get("preset") if isinstance(own, Mapping) else None
    if name is None or not isinstance(own, Mapping):
        return raw
    known = presets.segmenters()
    if not isinstance(name, str) or name not in known:
        raise ConfigError(f"segmenter.preset: {name!r} is not one of {', '.join(known)}")
    own = _changed(own, defaults.get("segmenter", {}))
    return {**raw, "segmenter": merge(known[name]["settings"], own)}


def _changed(own: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of `own` differs from `defaults`, at any depth."""
    found: dict[str, Any] = {}
    for key, value in own.items():
        default = defaults.get(key, ...)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            found[key] = _changed(value, default)
        elif (tuple(value) if isinstance(value, list) else value) != default:
            found[key] = value
    return found


def _listed(problems: Sequence[str], where: str) -> ConfigError:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return ConfigError(f"{where} has {count}: " + "; ".join(problems))


def describe_problems(
    error: ValidationError, model: type[BaseModel], prefix: str = ""
) -> list[str]:
    """Return one phrase for each problem: the key, what is wrong, what it may be."""
    problems = []
    for item in error.errors():
        key = (prefix + ".".join(str(part) for part in item["loc"])).rstrip(".")
        if key in MOVED:
            problems.append(f"unknown key {key}; {MOVED[key]}")
        elif item["type"] == "extra_forbidden":
            siblings = list(_fields_at(model, item["loc"][:-1]))
            close = closest(str(item["loc"][-1]), siblings)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(siblings)}"
            problems.append(f"unknown key {key}; {hint}")
        else:
            text = item["msg"].removeprefix("Value error, ")
            problems.append(f"{key}: {text} (got {_short(item['input'])})")
    return problems


def closest(name: str, names: Sequence[str]) -> list[str]:
    """Return the one of `names` that `name` was renamed to or resembles, in a list; else none."""
    renamed = [new for new in RENAMED.get(name, ()) if new in names]
    return renamed[:1] or difflib.get_close_matches(name, names, 1, cutoff=0.5)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _fields_at(model: type[BaseModel], location: Sequence[str | int]) -> Iterator[str]:
    """Yield the field names of the model that `location` leads to."""
    for part in location:
        field = model.model_fields.get(str(part))
        if field is not None:
            model = _model_of(field.annotation) or model
    yield from model.model_fields


def _model_of(annotation: Any) -> type[BaseModel] | None:
    candidates = (annotation, *typing.get_args(annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _impossible(params: Params) -> Iterator[str]:
    """Yield what is well typed but cannot be run."""
    datasets = (*BUILT_IN, *params.data.csv)
    yield from _selection("datasets", params.datasets, datasets)
    try:
        methods = method_spec.methods(params.methods_path)
    except ConfigError as error:
        yield str(error)
        return
    yield from _selection("methods", params.methods, methods)
    yield from _selection("protocols", params.protocols, params.protocols)
    yield from _selection("seeds", params.seeds, params.seeds)
    for name in params.data.csv:
        if name in BUILT_IN:
            yield f"data.csv.{name}: this name is taken by a built-in dataset"
        if not name.replace("-", "").replace("_", "").isalnum():
            yield f"data.csv.{name}: use letters, digits, '-' and '_' alone"
    for name, override in params.overrides.items():
        for problem in _unusable(override.set):
            yield f"overrides.{name}.set: {problem}"
    for dataset, method, protocol in _combinations(params, datasets, methods):
        try:
            resolve_settings(params, dataset, method, protocol)
        except ConfigError as error:
            yield str(error)


def _selection(key: str, chosen: Sequence[Any], known: Sequence[Any]) -> Iterator[str]:
    for name in chosen:
        if name not in known:
            yield f"{key}: {name!r} is not one of {', '.join(known)}"
    if not chosen:
        yield f"{key}: name at least one"
    if len(set(chosen)) != len(chosen):
        yield f"{key}: one is listed twice"


def _unusable(changes: Mapping[str, Any]) -> Iterator[str]:
    for key in changes:
        if key not in (*SECTIONS, "networks"):
            close = closest(key, SECTIONS)
            yield f"unknown section {key}" + (f"; did you mean {close[0]!r}?" if close else "")


def _combinations(
    params: Params, datasets: Sequence[str], methods: Sequence[str]
) -> Iterator[tuple[str, str, str]]:
    for dataset in params.datasets:
        for method in params.methods:
            if dataset in datasets and method in methods:
                yield from ((dataset, method, protocol) for protocol in params.protocols)


@functools.lru_cache(maxsize=512)
def _resolved(params_json: str, dataset: str, method: str, protocol: str) -> RunSettings:
    params = Params.model_validate_json(params_json)
    spec = method_spec.spec(method, params.methods_path)
    raw: dict[str, Any] = params.model_dump(include=set(SECTIONS))
    changes = dict(spec.common)
    if protocol == "published":
        changes = merge(changes, _with_preset(spec.published, {}))
    for override in params.overrides.values():
        wanted = (override.dataset, override.method, override.protocol)
        if all(
            w in (None, is_) for w, is_ in zip(wanted, (dataset, method, protocol), strict=True)
        ):
            changes = merge(changes, _with_preset(override.set, {}))
    own = changes.pop("networks", {})
    raw = merge(raw, changes)
    where = f"{dataset}/{method}/{protocol}"
    unknown = set(own) - set(spec.networks)
    if unknown:
        known = ", ".join(spec.networks) or "none"
        raise ConfigError(
            f"{where}: networks.{min(unknown)} is not in the chain of {method} ({known})"
        )
    problems: list[str] = []
    raw["networks"] = {
        name: _network(raw["classifier"], network, own.get(name, {}), f"networks.{name}.", problems)
        for name, network in spec.networks.items()
    }
    try:
        settings = RunSettings.model_validate(raw)
    except ValidationError as error:
        problems = [*describe_problems(error, RunSettings), *problems]
    if problems:
        raise ConfigError(f"{where}: " + "; ".join(problems))
    return settings


def _network(
    classifier: Mapping[str, Any],
    network: method_spec.NetworkSpec,
    changes: Mapping[str, Any],
    prefix: str,
    problems: list[str],
) -> dict[str, Any]:
    """Return a network's settings, its hyper-parameters validated; add what is wrong to `problems`."""
    trained = {} if network.computed else classifier
    merged = merge(merge(trained, network.common), changes)
    try:
        values = network.model.model_validate(merged.get("hyper_parameters", {}))
    except ValidationError as error:
        problems += describe_problems(error, network.model, f"{prefix}hyper_parameters.")
        values = network.model()
    return {**merged, "hyper_parameters": values}


def resolve_settings(params: Params, dataset: str, method: str, protocol: str) -> RunSettings:
    """Return the settings of one run; every stage reads its own section and no other."""
    return _resolved(params.model_dump_json(), dataset, method, protocol)
