"""The parameters as text: params.yaml, its JSON schema, and every key explained."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from wsss.settings import presets
from wsss.settings.params import Params
from wsss.storage.files import write_text


def setting_rows(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any, str, str]]:
    """Yield (key, default, type, description) for each field under `model`, depth first."""
    yield from _keys(model(), prefix)


def _keys(instance: BaseModel, prefix: str) -> Iterator[tuple[str, Any, str, str]]:
    for name, field in type(instance).model_fields.items():
        value = getattr(instance, name)
        if isinstance(value, BaseModel):
            yield (f"{prefix}{name}", ..., "section", (type(value).__doc__ or "").strip())
            yield from _keys(value, f"{prefix}{name}.")
        else:
            yield (f"{prefix}{name}", value, _type_name(field.annotation), field.description or "")


def _type_name(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " | ".join(map(str, arguments))
    if origin is typing.Annotated:
        return _type_name(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type_name(a) for a in arguments)
    if origin is tuple:
        return f"[{', '.join('...' if a is Ellipsis else _type_name(a) for a in arguments)}]"
    return getattr(annotation, "__name__", str(annotation))


def params_text() -> str:
    """Return the text of params.yaml: every key with its default and its description."""
    lines = [
        "# Every parameter of a run, with the values of the embedded demo.",
        "# Made by `wsss params --write` from wsss/settings/; presets in params/ are merged over it.",
    ]
    for key, value, kind, description in setting_rows(Params):
        depth, name = key.count("."), key.rsplit(".", 1)[-1]
        if kind == "section":
            lines += [""] * (depth == 0) + [
                f"{'  ' * depth}{name}:  # {description.splitlines()[0]}"
            ]
        else:
            lines.append(f"{'  ' * depth}{name}: {_yaml_value(value)}  # {description}")
    return "\n".join(lines) + "\n"


def _yaml_value(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=10_000).strip()
    return text.removesuffix("\n...").strip()


def explain() -> str:
    """Return one line for each key: name, type, default, description."""
    rows = [
        f"{key}\n    {description}"
        if kind == "section"
        else f"{key} = {_yaml_value(value)}   ({kind})\n    {description}"
        for key, value, kind, description in setting_rows(Params)
    ]
    rows += [
        f"segmenter preset {name}\n    {preset['about']}"
        for name, preset in presets.segmenters().items()
    ]
    return "\n".join(rows)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of params.yaml, for editors and for Snakemake's validation."""
    return Params.model_json_schema()


def schema_text() -> str:
    """Return the JSON schema of params.yaml as text."""
    return json.dumps(json_schema(), indent=1) + "\n"


def write_defaults(root: Path) -> None:
    """Write params.yaml and its JSON schema under `root` from the models."""
    write_text(root / "params.yaml", params_text())
    write_text(root / "workflow/schemas/params.schema.json", schema_text())
