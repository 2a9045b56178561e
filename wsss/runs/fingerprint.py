"""Fingerprints of code: they tell Snakemake that the modules behind a rule have changed.

The fingerprint of a stage covers its module and every module of `wsss` and of the user's methods that
it imports, as syntax trees without docstrings: comments and formatting never cause a new training.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

from wsss.errors import ConfigError
from wsss.settings.method_spec import OWN_PACKAGE

PACKAGE = Path(__file__).parents[1]

# Left out, because they cannot change numbers except through settings and inputs, which are compared
# on their own.
SILENT = {
    "errors",
    "machine.lock",
    "machine.slurm",
    "progress",
    "runs.fingerprint",
    "runs.inputs",
    "runs.record",
    "runs.run",
    "runs.sources",
    "runs.staleness",
    "settings",
    "settings.method_spec",
    "settings.resolve",
}


def fingerprint(*modules: str, folders: tuple[Path, ...] = ()) -> str:
    """Return 16 hexadecimal digits for the code of `modules` and their imports.

    modules: named below `wsss`, or in the package of the methods in the user's `folders`.
    """
    digest = hashlib.sha256()
    for name in sorted(closure(modules, folders)):
        digest.update(f"{name}:{_module_digest(_path(name, folders))}\n".encode())
    return digest.hexdigest()[:16]


def closure(modules: tuple[str, ...], folders: tuple[Path, ...] = ()) -> set[str]:
    """Return `modules` and all modules of `wsss` and `folders` that they import, at any depth."""
    reached: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in reached and name not in SILENT:
            reached.add(name)
            waiting.extend(_imports(name, folders))
    return reached


def _path(name: str, folders: tuple[Path, ...]) -> Path:
    """Return the file of a module; it does not exist if there is no such module."""
    package, *parts = name.split(".")
    roots = folders if package == OWN_PACKAGE else (PACKAGE,)
    parts = parts if package == OWN_PACKAGE else [package, *parts]
    paths = [
        folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        for folder in (root.joinpath(*parts) for root in roots)
    ]
    return next((path for path in paths if path.is_file()), paths[-1])


@functools.cache
def _tree(path: Path) -> ast.Module:
    try:
        return _without_docstrings(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        raise ConfigError(f"{path} is not valid Python: {error}. Correct the file.") from None


def _without_docstrings(source: str) -> ast.Module:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            body[:] = body[1:] or [ast.Pass()]
    return tree


def _is_docstring(node: object) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


@functools.cache
def _module_digest(path: Path) -> str:
    return _digest(_tree(path))


def source_digest(source: str) -> str:
    """Return the SHA-256 of a module's text, without its docstrings, comments and formatting."""
    return _digest(_without_docstrings(source))


def _digest(tree: ast.Module) -> str:
    return hashlib.sha256(_dump(tree).encode()).hexdigest()


def _dump(node: object) -> str:
    """Return a syntax tree as text that does not depend on the version of Python.

    Fields without content are left out: `ast.dump` writes them on some versions, and later versions
    add fields, such as the type parameters of a function. So are empty parts of f-strings, which
    the parser of Python 3.12 adds to nested formats.
    """
    if isinstance(node, list):
        return f"[{', '.join(map(_dump, node))}]"
    if not isinstance(node, ast.AST):
        return ascii(node)
    if isinstance(node, ast.JoinedStr):
        node = ast.JoinedStr([part for part in node.values if getattr(part, "value", None) != ""])
    fields = ((name, getattr(node, name, None)) for name in node._fields)
    filled = (f"{name}={_dump(value)}" for name, value in fields if value not in (None, []))
    return f"{type(node).__name__}({', '.join(filled)})"


@functools.cache
def _imports(name: str, folders: tuple[Path, ...]) -> tuple[str, ...]:
    path = _path(name, folders)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    names = set(_imported(_tree(path), package))
    names |= set(_parents(name)) if name.startswith(f"{OWN_PACKAGE}.") else set()
    return tuple(sorted(inner for inner in names if _path(inner, folders).is_file()))


def _parents(name: str) -> Iterator[str]:
    """Yield the packages that an import of a module in the user's folders runs first."""
    parts = name.split(".")
    yield from (".".join(parts[:count]) for count in range(2, len(parts)))


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """Yield the imported names that may be modules of `wsss` or of the user's folders."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(node, package)
            names = [source, *(f"{source}.{alias.name}" for alias in node.names)]
        else:
            continue
        for full in names:
            if full.startswith("wsss."):
                yield full.removeprefix("wsss.")
            elif full.startswith(f"{OWN_PACKAGE}."):
                yield full


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """Return the module that a statement in `package` imports from, with its full name."""
    if not node.level:
        return node.module or ""
    package = package if package.startswith(OWN_PACKAGE) else f"wsss.{package}"
    parents = package.split(".")
    parents = parents[: len(parents) + 1 - node.level]
    return ".".join([*parents, *([node.module] if node.module else [])])
