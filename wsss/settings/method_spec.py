"""The methods, read from their YAML files without importing torch.

A method is a folder of the package (`wsss/methods/`) or of one of the user's folders, which
`methods_path` lists. The functions take these as `folders`, relative to the working directory.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    create_model,
)

from wsss.errors import ConfigError
from wsss.settings.base import ListOf, Strict, merge
from wsss.settings.networks import HyperParameters

FOLDER = Path(__file__).parents[1] / "methods"
PACKAGE = "wsss.methods"
OWN_PACKAGE = "own_methods"  # the package that the methods in the user's folders are imported from
WAY_OUT = "docs/add-a-method.md describes a method's files."

Scalar = StrictBool | StrictInt | StrictFloat | StrictStr
Kind = Literal["bool", "int", "float", "str", "list[int]", "list[float]", "list[str]"]
TYPES: dict[str, Any] = {
    "bool": StrictBool,
    "int": StrictInt,
    "float": StrictFloat,
    "str": StrictStr,
    "list[int]": ListOf[StrictInt],
    "list[float]": ListOf[StrictFloat],
    "list[str]": ListOf[StrictStr],
}


class HyperParameter(Strict):
    """A hyper-parameter of one network of a method."""

    default: Scalar | tuple[Scalar, ...]
    description: str = Field(min_length=1, description="a sentence about its meaning")
    source: str = Field(min_length=1, description="the paper or code that its values are from")
    type: Kind | None = Field(None, description="the default's type unless written")
    minimum: float | None = Field(None, description="smallest value")
    maximum: float | None = Field(None, description="largest value")
    choices: tuple[str, ...] = Field((), description="the values that a text may have")

    @property
    def kind(self) -> str:
        """The name of the type, such as `float` or `list[int]`."""
        if self.type:
            return self.type
        if isinstance(self.default, tuple):
            return f"list[{type(self.default[0]).__name__ if self.default else 'float'}]"
        return type(self.default).__name__

    def field(self) -> tuple[Any, Any]:
        """Return the annotation and the field of a pydantic model."""
        field = Field(
            self.default,
            ge=self.minimum,
            le=self.maximum,
            description=f"{self.description} (source: {self.source})",
            validate_default=True,
        )
        return (Literal[self.choices] if self.choices else TYPES[self.kind]), field


class NetworkSpec(Strict):
    """One network of a method's chain."""

    after: tuple[str, ...] = Field((), description="networks that must be trained before")
    computed: bool = Field(
        False, description="whether its tensors are computed from those networks, not trained"
    )
    given: bool = Field(
        False, description="whether it is completed from given weights, not trained"
    )
    prepared: bool = Field(
        False,
        description="whether it gets tensors from text or from all training images before its training",
    )
    hyper_parameters: dict[str, HyperParameter] = Field(
        {}, description="the method's own parameters of this network"
    )
    common: dict[str, Any] = Field({}, description="changes to `classifier` for this network")

    @functools.cached_property
    def model(self) -> type[HyperParameters]:
        """The model that validates values of the hyper-parameters."""
        fields = {name: entry.field() for name, entry in self.hyper_parameters.items()}
        return create_model("HyperParameters", __base__=HyperParameters, **fields)  # type: ignore[call-overload,no-any-return]  # fields of any type


class MethodSpec(Strict):
    """The description of a method for the workflow, the tables and the documentation."""

    title: str
    paper: str = ""
    module: str = Field(description="module of its class, such as wsss.methods.cam.method")
    decodes: bool = Field(False, description="whether its cam_network predicts masks by itself")
    networks: dict[str, NetworkSpec] = Field({}, description="the chain, in training order")
    task: Literal["segmentation", "localization"] = Field(
        "segmentation", description="localization: boxes of images with one class each"
    )
    cam_network: str | None = Field(None, description="the network whose CAMs are used")
    scored_networks: tuple[str, ...] = Field(
        (), description="networks before it whose seeds are scored too"
    )
    warning: str = Field("", description="message that is shown when it is trained")
    supervision: str = Field("image labels", description="the labels that it learns from")
    common: dict[str, Any] = Field(
        {}, description="settings of the method under any protocol, by section"
    )
    published: dict[str, Any] = Field({}, description="the paper's settings, by section")

    @property
    def learns_masks(self) -> bool:
        """Whether the segmenter is trained on true masks instead of pseudo labels."""
        return self.cam_network is None and not self.imported

    @property
    def imported(self) -> tuple[str, ...]:
        """The stages whose files another program made; none for a method."""
        return ()

    @property
    def localizes(self) -> bool:
        """Whether it yields boxes instead of masks."""
        return self.task == "localization"


@dataclass(frozen=True)
class Source:
    """Where a method is written: its YAML file, and the package that its modules belong to."""

    path: Path
    package: str

    @property
    def shown(self) -> str:
        """The path of the YAML file, relative to the working directory if it is inside."""
        folder = Path.cwd()
        path = self.path.relative_to(folder) if self.path.is_relative_to(folder) else self.path
        return str(path)


def absolute(folders: tuple[str, ...]) -> tuple[Path, ...]:
    """Return the user's folders as absolute paths."""
    return tuple(Path(folder).resolve() for folder in folders)


def methods(folders: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the names of all methods, sorted.

    Raises:
        ConfigError: a folder is missing, or a name in it cannot be used.
    """
    return tuple(sorted(_sources(absolute(folders))))


def spec(name: str, folders: tuple[str, ...] = ()) -> MethodSpec:
    """Return what `<name>.yaml` says.

    Raises:
        ConfigError: there is no such method, or its YAML file does not describe one.
    """
    return _spec(name, absolute(folders))


def module(name: str, folders: tuple[str, ...] = ()) -> str:
    """Return the module that has the class of a method, such as wsss.methods.cam.method."""
    return spec(name, folders).module


def hyper_parameters(
    name: str, network: str, folders: tuple[str, ...] = (), **values: object
) -> HyperParameters:
    """Return the hyper-parameters of a network of a method, with defaults where no value is given."""
    return spec(name, folders).networks[network].model.model_validate(values)


@functools.cache
def _sources(folders: tuple[Path, ...]) -> dict[str, Source]:
    sources = {path.stem: Source(path, PACKAGE) for path in sorted(FOLDER.glob("*/*.yaml"))}
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(
                f"methods_path: there is no folder {folder}. Paths are relative to the folder that "
                "the command runs in; create it, or correct methods_path in params.yaml."
            )
        for path in sorted(folder.glob("*/*.yaml")):
            source = Source(path, OWN_PACKAGE)
            _check_name(source, sources)
            sources[path.stem] = source
    return sources


def _check_name(source: Source, others: Mapping[str, Source]) -> None:
    name = source.path.stem
    for word in (name, source.path.parent.name):
        if not (word.isidentifier() and word.isascii()):
            raise ConfigError(
                f"{source.shown}: {word!r} is not a name of a method. Use letters, digits and '_', "
                "with a letter first, for the file and its folder."
            )
    for other in others.values():
        folder = other.path.parent
        is_namesake = folder.name == source.path.parent.name and folder != source.path.parent
        if other.package == OWN_PACKAGE and is_namesake:
            raise ConfigError(
                f"{source.shown}: its folder has the name of the folder of {other.shown}, from which "
                "its modules would be imported. Rename one of the folders."
            )
    if name in others:
        other = others[name]
        owner = "a built-in method" if other.package == PACKAGE else f"the method in {other.shown}"
        raise ConfigError(
            f"{source.shown}: the name {name!r} is taken by {owner}. Rename the file."
        )


@functools.cache
def _spec(name: str, folders: tuple[Path, ...]) -> MethodSpec:
    sources = _sources(folders)
    if name not in sources:
        raise ConfigError(
            f"There is no method {name!r}. The methods are {', '.join(sorted(sources))}."
        )
    try:
        method = MethodSpec.model_validate(_content(name, sources))
        for network in method.networks.values():
            network.model()  # validates the defaults
    except ValidationError as error:
        raise _not_a_method(sources[name], _problems(error)) from None
    _check_chain(method, sources[name])
    return method


def shown_files(name: str, folders: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the YAML file of a method, then the files of the methods that it is `like`."""
    return tuple(source.shown for source in _bases(name, absolute(folders)))


@functools.cache
def _bases(name: str, folders: tuple[Path, ...]) -> tuple[Source, ...]:
    source = _sources(folders)[name]
    base = _yaml(source.path.read_text(encoding="utf-8")).get("like")
    return (source, *(_bases(base, folders) if base else ()))


def _problems(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors()
    )


def _not_a_method(source: Source, problem: str) -> ConfigError:
    return ConfigError(f"{source.shown} does not describe a method: {problem}. {WAY_OUT}")


def _check_chain(method: MethodSpec, source: Source) -> None:
    """Stop at a chain that no workflow can train, and at a missing module."""
    if method.cam_network is not None and method.cam_network not in method.networks:
        raise _not_a_method(source, f"cam_network: {method.cam_network!r} is not one of networks")
    earlier: set[str] = set()
    for name, network in method.networks.items():
        if missing := set(network.after) - earlier:
            raise _not_a_method(
                source, f"networks.{name}.after: {min(missing)!r} does not come before"
            )
        earlier.add(name)
    if method.module.startswith(f"{OWN_PACKAGE}.{source.path.parent.name}."):
        _check_module(source.path.with_name(f"{method.module.rpartition('.')[2]}.py"), source)


def _check_module(path: Path, source: Source) -> None:
    """Stop at a module of the user that is missing, is not Python, or does not name its class."""
    if not path.is_file():
        raise _not_a_method(source, f"{path.name} is not beside it, and its class belongs there")
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        raise ConfigError(f"{path} is not valid Python: {error}. Correct the file.") from None
    if "METHOD" not in _names(tree):
        raise ConfigError(no_class(path))


def _names(tree: ast.Module) -> Iterator[str]:
    """Yield the names that the statements of a module assign or import."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)


def no_class(path: Path | str) -> str:
    """Return the message for a module that does not name its method's class."""
    return (
        f"{path} does not say which class is the method: end it with METHOD = followed by the name "
        "of its subclass of wsss.methods.base.Method."
    )


def _content(
    name: str, sources: Mapping[str, Source], variants: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the content of a method's YAML, laid over the content of the method it is `like`.

    variants: the methods that are `like` this one.
    """
    source, variants = sources[name], (*variants, name)
    try:
        content = _yaml(source.path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _not_a_method(source, " ".join(str(error).split())) from None
    if not isinstance(content, dict):
        raise _not_a_method(source, "it has no `key: value` lines")
    base = content.pop("like", None)
    if base is None or "module" in content:
        package = f"{source.package}.{source.path.parent.name}"
        content["module"] = f"{package}.{content.get('module', 'method')}"
    if base is None:
        return content
    if base not in sources or base in variants:
        raise _not_a_method(source, f"like: there is no other method {base!r}")
    return _without_nulls(merge(_content(base, sources, variants), content))


def _yaml(text: str) -> Any:
    """Return the content of a YAML document, parsed by libyaml if PyYAML has it: ten times as fast.

    Every job reads all methods. The message of an error is that of PyYAML itself.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(text, loader)  # noqa: S506  # a safe loader
    except yaml.YAMLError:
        return yaml.safe_load(text)


def _without_nulls(content: dict[str, Any]) -> dict[str, Any]:
    """Return a method's YAML without the networks that are null in it."""
    networks = {n: entry for n, entry in content.get("networks", {}).items() if entry is not None}
    published = content.get("published", {})
    settings = {
        name: entry
        for name, entry in published.get("networks", {}).items()
        if name in networks and entry is not None
    }
    return {**content, "networks": networks, "published": {**published, "networks": settings}}
