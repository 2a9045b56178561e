"""Fingerprints of code: they tell Snakemake that the code behind a rule has changed.

The fingerprint of a stage covers its module and every definition of `wsss` and of the user's methods
that this module uses, at any depth, as syntax trees without docstrings: comments, formatting and
functions that the stage does not use never cause a new training.

What cannot be followed counts whole: a module that is passed as a value, a name that a module does
not define, a module whose code reads all of its names. Statements that run on import count for every
module that is imported.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from wsss.errors import ConfigError
from wsss.runs.definitions import ON_IMPORT, STAR, Definitions, Uses
from wsss.settings.method_spec import OWN_PACKAGE

PACKAGE = Path(__file__).parents[1]
ROOT = "wsss"

# Left out, because they cannot change numbers except through settings and inputs, which are compared
# on their own.
SILENT = {
    "errors",
    "machine.gpu_locks",
    "machine.gpus",
    "machine.lock",
    "machine.slurm",
    "progress",
    "runs.acceptance",
    "runs.definitions",
    "runs.fingerprint",
    "runs.inputs",
    "runs.occasion",
    "runs.origin",
    "runs.record",
    "runs.run",
    "runs.saliency",
    "runs.shared",
    "runs.sources",
    "runs.staleness",
    "runs.syntax",
    "runs.texts",
    "runs.verification",
    "settings",
    "settings.method_spec",
    "settings.resolve",
    "wsss",  # the public names
}


class Place(NamedTuple):
    """A definition of a module; the name STAR stands for all of them, with its imports."""

    module: str
    name: str


Folders = tuple[Path, ...]


def fingerprint(*modules: str, folders: Folders = ()) -> str:
    """Return 16 hexadecimal digits for the code of `modules` and all that they use.

    modules: named below `wsss`, or in the package of the methods in the user's `folders`.
    """
    return _fingerprint(PACKAGE, modules, folders)


@functools.cache
def _fingerprint(_package: Path, modules: tuple[str, ...], folders: Folders) -> str:
    digest = hashlib.sha256()
    for place in sorted(reached(modules, folders)):
        for text in _texts(place, folders):
            digest.update(f"{place.module}:{place.name}:{text}\n".encode())
    return digest.hexdigest()[:16]


def reached(modules: Sequence[str], folders: Folders = ()) -> set[Place]:
    """Return every definition that runs, or may run, if all of `modules` is used."""
    places: set[Place] = set()
    waiting = [place for name in modules for place in _entry(_full(name), folders)]
    while waiting:
        place = waiting.pop()
        if place not in places:
            places.add(place)
            waiting.extend(_used(place, folders))
        if not waiting and any(_finds_classes(other, folders) for other in places):
            waiting = [Place(name, STAR) for name in {place.module for place in places}]
            waiting = [whole for whole in waiting if whole not in places]
    return places


def _full(name: str) -> str:
    return name if name.split(".")[0] == OWN_PACKAGE else f"{ROOT}.{name}"


def _entry(module: str, folders: Folders) -> Iterator[Place]:
    """Yield all definitions of a module, and the names that it imports from modules."""
    code = _definitions(module, folders)
    if code is not None:
        yield from _run(module, folders)
        yield from (Place(module, name) for name in code.by_name)
        for name, targets in code.imported.imports.items():
            if name != STAR and not any(_exists(target, folders) for target in targets):
                yield from _named(module, (name,), folders)


@functools.cache
def _used(place: Place, folders: Folders) -> tuple[Place, ...]:
    """Return the definitions that a definition uses itself, and what its imports run."""
    module, name = place
    code = _definitions(module, folders)
    if code is None:
        return ()
    places = {Place(module, ON_IMPORT)}
    if name == STAR:
        names = {*code.by_name, *code.imported.imports} - {STAR}
        places.update(*(_named(module, (other,), folders) for other in names))
    if name == ON_IMPORT:
        places.update(_run_by(code.imported, folders))
    if name in code.by_name:
        places.update(_used_by(module, code.by_name[name].uses, folders))
    return tuple(places)


def _used_by(module: str, uses: Uses, folders: Folders) -> Iterator[Place]:
    """Yield what the names, strings and imports in the code of a definition may mean."""
    for dotted in uses.names:
        yield from _named(module, dotted, folders)
        for full in uses.imports.get(dotted[0], ()):
            yield from _meant((*full.split("."), *dotted[1:]), folders)
    yield from _run_by(uses, folders)
    for text in uses.strings:
        if _definitions(text, folders):
            yield Place(text, STAR)
    if uses.reads_all:
        yield Place(module, STAR)


def _run_by(uses: Uses, folders: Folders) -> Iterator[Place]:
    """Yield what import statements run; the modules of `from module import *` count whole."""
    for module in uses.modules:
        yield from _run(module, folders)
    for module in uses.imports.get(STAR, ()):
        if _definitions(module, folders):
            yield Place(module, STAR)


def _named(
    module: str, dotted: Sequence[str], folders: Folders, passed: tuple[str, ...] = ()
) -> Iterator[Place]:
    """Yield each definition that a dotted name may refer to in the code of a module.

    passed: the modules that have imported the name from each other so far.
    """
    code = _definitions(module, folders)
    first, *rest = dotted
    if code is not None and code.binds(first) and module not in passed:
        yield Place(module, first)
        for full in code.imported.imports.get(first, ()):
            yield from _meant((*full.split("."), *rest), folders, (*passed, module))


def _meant(
    dotted: tuple[str, ...], folders: Folders, passed: tuple[str, ...] = ()
) -> Iterator[Place]:
    """Yield what a full dotted name may mean: a definition, or a whole module."""
    if dotted[0] not in (ROOT, OWN_PACKAGE):
        return
    depths = range(len(dotted), 0, -1)
    depth = next((n for n in depths if _exists(".".join(dotted[:n]), folders)), 0)
    module, rest = ".".join(dotted[:depth]), dotted[depth:]
    code = _definitions(module, folders)
    if code is not None and rest and code.binds(rest[0]):
        yield from _named(module, rest, folders, passed)
    elif code is not None:
        yield Place(module, STAR)
    if depth > 1:  # a package may bind the name of its module to another object
        yield from _named(".".join(dotted[: depth - 1]), dotted[depth - 1 :], folders, passed)


def _run(module: str, folders: Folders) -> Iterator[Place]:
    """Yield the statements that run when a module is imported, those of its packages included."""
    parts = module.split(".")
    if parts[0] not in (ROOT, OWN_PACKAGE):
        return
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        if _definitions(name, folders) is not None:
            yield Place(name, ON_IMPORT)


def _finds_classes(place: Place, folders: Folders) -> bool:
    code = _definitions(place.module, folders)
    return bool(code and place.name in code.by_name and code.by_name[place.name].uses.finds_classes)


def _texts(place: Place, folders: Folders) -> Iterator[str]:
    """Yield what the fingerprint holds of a definition: its code, and what an import stands for."""
    code = _definitions(place.module, folders)
    if code is not None:
        definition = code.by_name.get(place.name)
        if definition is not None and definition.statements:
            yield definition.digest
        yield from sorted(code.imported.imports.get(place.name, ()))


@functools.cache
def _exists(module: str, folders: Folders) -> bool:
    return _path(module, folders) is not None


@functools.cache
def _definitions(module: str, folders: Folders) -> Definitions | None:
    """Return the content of a module; None if there is no such module, or if it is left out."""
    path = _path(module, folders)
    if path is None or module.removeprefix(f"{ROOT}.") in SILENT:
        return None
    return _parsed(path, module if path.name == "__init__.py" else module.rpartition(".")[0])


def _parsed(path: Path, package: str) -> Definitions:
    try:
        return _cut(path.read_text(encoding="utf-8"), package)
    except (SyntaxError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        raise ConfigError(f"{path} is not valid Python: {error}. Correct the file.") from None


_cut = functools.cache(Definitions)  # by content, so that it stays true when files change


def _path(module: str, folders: Folders) -> Path | None:
    """Return the file of a module of `wsss` or of the user's folders; None if there is none."""
    root, *parts = module.split(".")
    if root not in (ROOT, OWN_PACKAGE) or "" in parts or module == OWN_PACKAGE:
        return None
    return _file(folders if root == OWN_PACKAGE else (PACKAGE,), tuple(parts))


@functools.cache
def _file(roots: Folders, parts: tuple[str, ...]) -> Path | None:
    for base in (root.joinpath(*parts) for root in roots):
        path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        if path.is_file():
            return path
    return None


def clear_caches() -> None:
    """Forget all files, for a process in which they change."""
    for cached in (_fingerprint, _used, _definitions, _exists, _file):
        cached.cache_clear()
