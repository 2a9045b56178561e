"""Settings as text: params.yaml, its JSON schema, and an explanation of every key."""

from __future__ import annotations

import functools
import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import yaml
from pydantic import BaseModel

from wsss.settings import method_spec, presets
from wsss.settings.base import RawSettings
from wsss.settings.data import SHARED_KEYS
from wsss.settings.params import Params
from wsss.storage.files import write_text

# The keys that stand in params.yaml: what a user is likely to change. A section stands for all its keys.
USUAL = (
    "preset",
    "datasets",
    "methods",
    "methods_path",
    "protocols",
    "seeds",
    "shards",
    "results",
    "data",
    "classifier.backbone",
    "classifier.weights",
    "classifier.stride",
    "classifier.augment.crop_px",
    "classifier.train.epochs",
    "classifier.train.batch",
    "classifier.train.lr",
    "classifier.train.workers",
    "cam.scales",
    "cam.batch",
    "affinity.kind",
    "affinity.backbone",
    "affinity.weights",
    "affinity.stride",
    "affinity.confident.foreground",
    "affinity.confident.background",
    "affinity.augment.crop_px",
    "affinity.train.epochs",
    "affinity.train.batch",
    "affinity.train.lr",
    "affinity.train.workers",
    "walk.beta",
    "walk.log2_steps",
    "pseudo.threshold",
    "pseudo.crf",
    "segmenter.backbone",
    "segmenter.weights",
    "segmenter.stride",
    "segmenter.augment.crop_px",
    "segmenter.train.epochs",
    "segmenter.train.batch",
    "segmenter.train.lr",
    "segmenter.train.workers",
    "segmenter.test.scales",
    "segmenter.test.mirror",
    "segmenter.test.crf",
    "segmenter.test.batch",
    "calibration",
    "evaluation.seed_threshold",
    "report.panels",
    "overrides",
    "variants",
)


def is_usual(key: str) -> bool:
    """Return whether a key stands in params.yaml, or is a section with such keys."""
    if key.startswith("data.") and key.rpartition(".")[2] in SHARED_KEYS:
        return False
    return any(key == usual or _below(key, usual) or _below(usual, key) for usual in USUAL)


def is_usual_line(key: str, value: object) -> bool:
    """Return whether params.yaml has this line unless somebody changes it."""
    return is_usual(key) and defaults().get(key, ...) == value


def _below(key: str, section: str) -> bool:
    return key.startswith(f"{section}.")


@functools.cache
def defaults() -> dict[str, object]:
    """Return the default of every key as plain YAML holds it."""
    rows = setting_rows(Params)
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value, kind, _ in rows
        if kind != "section"
    }


def setting_rows(
    model: type[BaseModel], prefix: str = ""
) -> Iterator[tuple[str, object, str, str]]:
    """Yield (key, default, type, description) for each field under `model`, depth first."""
    yield from _keys(model(), prefix)


def _keys(instance: BaseModel, prefix: str) -> Iterator[tuple[str, object, str, str]]:
    for name, field in type(instance).model_fields.items():
        value = getattr(instance, name)
        if isinstance(value, BaseModel):
            yield (f"{prefix}{name}", ..., "section", (type(value).__doc__ or "").strip())
            yield from _keys(value, f"{prefix}{name}.")
        else:
            yield (f"{prefix}{name}", value, _type_name(field.annotation), field.description or "")


def _type_name(annotation: object) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " | ".join(map(str, arguments))
    if origin is typing.Annotated:
        return _type_name(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type_name(a) for a in arguments)
    if origin is tuple:
        return f"[{', '.join('...' if a is Ellipsis else _type_name(a) for a in arguments)}]"
    if annotation is types.NoneType:
        return "null"
    return getattr(annotation, "__name__", str(annotation))


def params_text() -> str:
    """Return the text of params.yaml: the usual keys with their defaults and descriptions."""
    lines = [
        "# What is most often changed, with the values of the embedded demo; presets in params/ are laid",
        "# over it. All other keys: `wsss params --explain`. Write them here or in a file of your own;",
        "# docs/settings.md says which layer counts. Made by `wsss params --write` from wsss/settings/.",
    ]
    for key, value, kind, description in setting_rows(Params):
        if not is_usual(key):
            continue
        depth, name = key.count("."), key.rsplit(".", 1)[-1]
        if kind == "section":
            lines += [""] * (depth == 0) + [
                f"{'  ' * depth}{name}:  # {description.splitlines()[0]}"
            ]
        else:
            lines.append(f"{'  ' * depth}{name}: {yaml_value(value)}  # {description}")
    return "\n".join(lines) + "\n"


def yaml_value(value: object) -> str:
    """Return a value as YAML on one line."""
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=10_000).strip()
    return text.removesuffix("\n...").strip()


def explain(folders: tuple[str, ...] = ()) -> str:
    """Return one line for each key and each hyper-parameter: name, default, type, description.

    folders: the user's folders with methods, from `methods_path`.
    """
    rows = [
        f"{key}\n    {description}"
        if kind == "section"
        else f"{key} = {yaml_value(value)}   ({kind})\n    {description}"
        for key, value, kind, description in setting_rows(Params)
    ]
    rows += [
        f"segmenter preset {name}\n    {preset.about}"
        for name, preset in presets.segmenters().items()
    ]
    rows += hyper_parameter_rows(folders)
    return "\n".join(rows)


def hyper_parameter_rows(folders: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield two lines for each hyper-parameter of every method: its default, sentence and source."""
    for method in method_spec.methods(folders):
        for network, entry in method_spec.spec(method, folders).networks.items():
            for name, parameter in entry.hyper_parameters.items():
                key = f"{method}: networks.{network}.hyper_parameters.{name}"
                yield (
                    f"{key} = {yaml_value(parameter.default)}   ({_limits(parameter)})\n"
                    f"    {parameter.description} (source: {parameter.source})"
                )


def _limits(parameter: method_spec.HyperParameter) -> str:
    """Return the type of a hyper-parameter with its limits, such as `float, 0 to 1`."""
    if parameter.choices:
        return " | ".join(parameter.choices)
    minimum, maximum = parameter.minimum, parameter.maximum
    if minimum is not None and maximum is not None:
        return f"{parameter.kind}, {minimum:g} to {maximum:g}"
    if minimum is not None:
        return f"{parameter.kind}, from {minimum:g}"
    return parameter.kind if maximum is None else f"{parameter.kind}, up to {maximum:g}"


def json_schema() -> RawSettings:
    """Return the JSON schema of params.yaml, for editors and for Snakemake's validation.

    An override or a variant that names one of the package's methods is held to that method's hyper-parameters.
    """
    schema = Params.model_json_schema()
    definitions = schema["$defs"]
    conditions = []
    for method in method_spec.methods():
        networks = {}
        for network, entry in method_spec.spec(method).networks.items():
            name = f"HyperParameters.{method}.{network}"
            definitions[name] = {**entry.model.model_json_schema(), "title": name}
            reference = {"hyper_parameters": {"$ref": f"#/$defs/{name}"}}
            networks[network] = {"properties": reference}
        if networks:
            conditions.append(_for_method(method, networks))
    definitions["Override"]["allOf"] = definitions["Variant"]["allOf"] = conditions
    return schema


def _for_method(method: str, networks: RawSettings) -> RawSettings:
    """Return the schema of an override or a variant that names a method: the properties of its networks."""
    changes = {"properties": {"networks": {"properties": networks}}}
    return {
        "if": {"properties": {"method": {"const": method}}, "required": ["method"]},
        "then": {"properties": {"set": changes}},
    }


def schema_text() -> str:
    """Return the JSON schema of params.yaml as text."""
    return json.dumps(json_schema(), indent=1) + "\n"


def write_defaults(root: Path) -> None:
    """Write params.yaml and its JSON schema under `root` from the models."""
    write_text(root / "params.yaml", params_text())
    write_text(root / "workflow/schemas/params.schema.json", schema_text())
