"""The list of methods, read from their YAML files without importing torch."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import Field, ValidationError

from wsss.errors import ConfigError
from wsss.settings.base import Strict, merge

if TYPE_CHECKING:
    pass

FOLDER = Path(__file__).parents[1] / "methods"


class NetworkSpec(Strict):
    """One network of a method's chain."""

    after: tuple[str, ...] = Field((), description="networks that must be trained before")
    computed: bool = Field(
        False, description="tensors that are computed from those networks, instead of trained"
    )
    settings: dict[str, Any] = Field({}, description="settings of its own, with their defaults")
    common: dict[str, Any] = Field({}, description="changes to `classifier` for this network")


class MethodSpec(Strict):
    """What the DAG, the tables and the documentation know about a method."""

    title: str
    paper: str = ""
    module: str = Field(description="where its class is, such as cam.method; below wsss.methods")
    decodes: bool = Field(False, description="whether its cam_network predicts masks by itself")
    networks: dict[str, NetworkSpec] = Field({}, description="the chain, in training order")
    task: Literal["segmentation", "localization"] = Field(
        "segmentation", description="localization: boxes of images with one class each"
    )
    cam_network: str | None = Field(None, description="the network whose CAMs are used")
    scored_networks: tuple[str, ...] = Field(
        (), description="networks before it whose seeds are scored too"
    )
    warning: str = Field("", description="what is said when it is trained")
    supervision: str = Field("image labels", description="what it learns from")
    common: dict[str, Any] = Field(
        {}, description="what belongs to the method under any protocol, by section"
    )
    published: dict[str, Any] = Field({}, description="the paper's settings, by section")

    @property
    def learns_masks(self) -> bool:
        """Whether the segmenter is trained on true masks instead of pseudo labels."""
        return self.cam_network is None

    @property
    def localizes(self) -> bool:
        """Whether it yields boxes instead of masks."""
        return self.task == "localization"


@functools.cache
def _files() -> dict[str, Path]:
    return {path.stem: path for path in sorted(FOLDER.glob("*/*.yaml"))}


def methods() -> tuple[str, ...]:
    """Return the names of all methods, sorted."""
    return tuple(sorted(_files()))


@functools.cache
def spec(name: str) -> MethodSpec:
    """Return what `<name>.yaml` says; `ConfigError` if there is no such method."""
    if name not in _files():
        raise ConfigError(f"There is no method {name!r}. The methods are {', '.join(methods())}.")
    try:
        return MethodSpec.model_validate(_content(name))
    except ValidationError as error:
        raise ConfigError(f"{_files()[name]} does not describe a method: {error}") from None


@functools.cache
def files(name: str) -> tuple[Path, ...]:
    """Return the YAML file of a method, then those of the methods that it is `like`."""
    path = _files()[name]
    base = yaml.safe_load(path.read_text(encoding="utf-8")).get("like")
    return (path, *(files(base) if base else ()))


def _content(name: str) -> dict[str, Any]:
    """Return the content of a method's YAML, laid over that of the method it is `like`."""
    path = _files()[name]
    own: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    base = own.pop("like", None)
    if base:
        return _without_nulls(merge(_content(base), own))
    return {**own, "module": f"{path.parent.name}.{own.get('module', 'method')}"}


def _without_nulls(content: dict[str, Any]) -> dict[str, Any]:
    """Return a method's YAML without the networks of another's chain that are null in its own."""
    networks = {name: each for name, each in content["networks"].items() if each is not None}
    published = content.get("published", {})
    own = {name: published.get("networks", {}).get(name) for name in networks}
    kept = {name: each for name, each in own.items() if each is not None}
    return {**content, "networks": networks, "published": {**published, "networks": kept}}


def module(name: str) -> str:
    """Return the module under `wsss.methods` that has the class of a method."""
    return spec(name).module
