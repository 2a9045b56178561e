"""Fingerprints of code: they tell Snakemake that the modules behind a rule have changed.

The fingerprint of a stage covers its module and all modules of wsss that it imports, as syntax trees
without docstrings: comments and formatting never cause a new training.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

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
    "settings",
    "settings.method_spec",
    "settings.resolve",
}


def fingerprint(*modules: str) -> str:
    """Return 16 hexadecimal digits for the code of `modules` (names below `wsss`) and their imports."""
    digest = hashlib.sha256()
    for name in sorted(closure(modules)):
        digest.update(f"{name}:{_module_digest(name)}\n".encode())
    return digest.hexdigest()[:16]


def closure(modules: tuple[str, ...]) -> set[str]:
    """Return `modules` and all modules of wsss that they import, at any depth."""
    visited: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in visited and name not in SILENT:
            visited.add(name)
            waiting.extend(_imports(name))
    return visited


def _path(name: str) -> Path:
    inside = PACKAGE.joinpath(*name.split("."))
    return inside / "__init__.py" if inside.is_dir() else inside.with_suffix(".py")


@functools.cache
def _tree(name: str) -> ast.Module:
    return _without_docstrings(_path(name).read_text(encoding="utf-8"))


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
def _module_digest(name: str) -> str:
    return _digest(_tree(name))


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
def _imports(name: str) -> tuple[str, ...]:
    return tuple(sorted(set(_imported(_tree(name)))))


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for full in names:
            inner = full.removeprefix("wsss.")
            if full.startswith("wsss.") and _path(inner).is_file():
                yield inner
