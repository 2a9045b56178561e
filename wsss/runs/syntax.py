"""Source code as text that changes with its meaning alone, on every version of Python."""

from __future__ import annotations

import ast
import hashlib


def source_digest(source: str) -> str:
    """Return the SHA-256 of a module's text, without its docstrings, comments and formatting."""
    return digest(ast.parse(source))


def digest(*nodes: ast.AST) -> str:
    """Return the SHA-256 of syntax trees, without their docstrings."""
    return hashlib.sha256("\n".join(map(_dump, nodes)).encode()).hexdigest()


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
    filled = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            value = _significant(node, name, value)
        if value is not None and value != []:
            filled.append(f"{name}={_dump(value)}")
    return f"{type(node).__name__}({', '.join(filled)})"


def _significant(node: ast.AST, name: str, values: list[ast.AST]) -> list[ast.AST]:
    """Return the values of a field without docstrings and without empty parts of f-strings."""
    if name == "body" and values and is_docstring(values[0]):
        return values[1:] or [ast.Pass()]
    if isinstance(node, ast.JoinedStr):
        return [part for part in values if getattr(part, "value", None) != ""]
    return values


def is_docstring(node: object) -> bool:
    """Return whether a statement is a string."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
