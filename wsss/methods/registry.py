"""The list of methods, read from their YAML files without importing torch."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import Field, ValidationError

from wsss.errors import ConfigError
from wsss.schema import Strict

if TYPE_CHECKING:
    from wsss.methods.base import Method

FOLDER = Path(__file__).parent


class NetworkSpec(Strict):
    """One network of a method's chain."""

    after: tuple[str, ...] = Field((), description="networks that must be trained before")
    settings: dict[str, Any] = Field({}, description="settings of its own, with their defaults")
    common: dict[str, Any] = Field({}, description="changes to `classifier` for this network")


class MethodSpec(Strict):
    """What the DAG, the tables and the documentation know about a method."""

    title: str
    paper: str = ""
    networks: dict[str, NetworkSpec] = Field({}, description="the chain, in training order")
    task: Literal["segmentation", "localization"] = Field(
        "segmentation", description="localization: boxes of images with one class each"
    )
    localizer: str | None = Field(None, description="the network whose CAMs are used")
    supervision: str = Field("image labels", description="what it learns from")
    published: dict[str, Any] = Field({}, description="the paper's settings, by section")

    @property
    def learns_masks(self) -> bool:
        """Whether the segmenter is trained on true masks instead of pseudo labels."""
        return self.localizer is None

    @property
    def localizes(self) -> bool:
        """Whether it yields boxes instead of masks."""
        return self.task == "localization"


@functools.cache
def methods() -> tuple[str, ...]:
    """Return the names of all methods, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


@functools.cache
def spec(name: str) -> MethodSpec:
    """Return what `<name>.yaml` says; `ConfigError` if there is no such method."""
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"There is no method {name!r}. The methods are {', '.join(methods())}.")
    try:
        return MethodSpec.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise ConfigError(f"{path} does not describe a method: {error}") from None


def load(name: str) -> type[Method]:
    """Import and return the class of a method."""
    module = importlib.import_module(f"wsss.methods.{name}")
    found: type[Method] = module.METHOD
    return found
