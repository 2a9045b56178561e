"""The top-level definitions of a module, and the names that each definition uses."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeGuard

from wsss.runs.syntax import digest, is_docstring

ON_IMPORT = ""  # name of the statements that run when a module is imported
STAR = "*"
# Decorators and calls that do nothing but return a value. Every other one may register what it gets,
# so its statement counts as soon as the module is imported.
PURE_NAMES = {
    *(
        "abs",
        "bool",
        "bytes",
        "classmethod",
        "dict",
        "enumerate",
        "float",
        "frozenset",
        "int",
        "len",
    ),
    *("list", "max", "min", "property", "range", "round", "set", "sorted", "staticmethod", "str"),
    *("sum", "tuple", "zip"),
}
PURE_MODULES = ("collections", "contextlib", "dataclasses", "functools", "pathlib", "re", "typing")
PURE_PLACES = {
    "pydantic.ConfigDict",
    "pydantic.Field",
    "torch.inference_mode",
    "torch.no_grad",
}
READS_ALL_NAMES = {"eval", "exec", "globals", "vars"}


@dataclass
class Uses:
    """What a piece of code uses.

    names: dotted names as they are written, such as ("crf", "infer"). strings: constants that may be
    the name of a module. imports: the full dotted names behind every local name. modules: the full
    names of all modules that its import statements may run. reads_all: it can read every name of its
    module. finds_classes: it can reach classes that derive from its own.
    """

    names: set[tuple[str, ...]] = field(default_factory=set)
    strings: set[str] = field(default_factory=set)
    imports: dict[str, set[str]] = field(default_factory=dict)
    modules: set[str] = field(default_factory=set)
    reads_all: bool = False
    finds_classes: bool = False

    def add_name(self, dotted: tuple[str, ...]) -> None:
        """Add a name with its attributes."""
        self.names.add(dotted)
        self.reads_all |= dotted[0] in READS_ALL_NAMES or dotted[:2] == ("sys", "modules")
        self.finds_classes |= "__subclasses__" in dotted

    def add_special(self, node: ast.AST) -> None:
        """Add strings that may be modules, and note what reaches classes that derive from others."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            self.strings.add(node.value)
        elif isinstance(node, ast.Attribute):
            self.finds_classes |= node.attr == "__subclasses__"
        elif isinstance(node, ast.FunctionDef):
            self.finds_classes |= node.name == "__init_subclass__"
        elif isinstance(node, ast.ClassDef):
            self.finds_classes |= any(word.arg == "metaclass" for word in node.keywords)

    def add_import(self, node: ast.Import | ast.ImportFrom, package: str) -> None:
        """Add the names and modules of an import statement in `package`."""
        source = absolute(node, package) if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:
            full = f"{source}.{alias.name}" if source else alias.name
            if alias.name == STAR:
                name, full = STAR, source
            elif source or alias.asname:
                name = alias.asname or alias.name
            else:
                name = full.partition(".")[0]
            target = full if source or alias.asname else name
            self.imports.setdefault(name, set()).add(target)
            self.modules |= {full, source} - {""}


def uses_of(nodes: Iterable[ast.AST], package: str) -> Uses:
    """Return what code in `package` uses; blocks for type checkers alone do not count."""
    uses, waiting = Uses(), list(nodes)
    while waiting:
        node = waiting.pop()
        dotted = dotted_name(node)
        if dotted:
            uses.add_name(dotted)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            uses.add_import(node, package)
        elif isinstance(node, ast.If) and is_for_type_checkers(node):
            waiting += node.orelse
        else:
            uses.add_special(node)
            waiting += _annotated(node)
            waiting += ast.iter_child_nodes(node)
    return uses


def _annotated(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the code in the strings of a node's annotation."""
    if isinstance(node, ast.arg | ast.AnnAssign):
        annotation = node.annotation
    else:
        annotation = getattr(node, "returns", None)
    for part in ast.walk(annotation) if annotation else ():
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            try:
                yield ast.parse(part.value, mode="eval")
            except SyntaxError:
                continue  # a string of Literal or Annotated


@dataclass(frozen=True, eq=False)
class Definition:
    """The top-level statements that bind one name, or that run on import."""

    statements: tuple[ast.stmt, ...]
    package: str

    @cached_property
    def uses(self) -> Uses:
        """What the statements use."""
        return uses_of(self.statements, self.package)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the statements."""
        return digest(*self.statements)


class Definitions:
    """A module, cut into its definitions."""

    def __init__(self, source: str, package: str) -> None:
        """Parse `source`; package: full name of the package that relative imports start from.

        Raises:
            SyntaxError, ValueError: `source` is not valid Python.
        """
        statements = list(_flat(ast.parse(source).body))
        self.imported = Uses()
        for statement in statements:
            for node in [] if _is_definition(statement) else ast.walk(statement):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    self.imported.add_import(node, package)
        groups: dict[str, list[ast.stmt]] = {}
        for statement in statements:
            for name in _bound(statement):
                groups.setdefault(name, []).append(statement)
        self._defined = set(groups)
        groups[ON_IMPORT] = list(filter(self._runs_on_import, statements))
        self.by_name = {name: Definition(tuple(group), package) for name, group in groups.items()}

    def binds(self, name: str) -> bool:
        """Return whether the module has a definition or an import of this name."""
        return name in self._defined or name in self.imported.imports

    def _runs_on_import(self, statement: ast.stmt) -> bool:
        """Return whether the import of the module may do more here than bind a value to a name."""
        if isinstance(statement, ast.Import):
            return False
        if isinstance(statement, ast.ImportFrom):
            return statement.module == "__future__"
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            defaults = (node for node in statement.args.defaults)
            more = (node for node in statement.args.kw_defaults if node)
            return self._decorated(statement.decorator_list) or self._calls([*defaults, *more])
        if isinstance(statement, ast.ClassDef):
            inner = any(map(self._runs_on_import, _without_docstring(statement.body)))
            return bool(statement.keywords) or self._decorated(statement.decorator_list) or inner
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names = all(map(_is_name, targets))
            return not names or self._calls([statement.value] if statement.value else [])
        return not isinstance(statement, ast.Pass)

    def _decorated(self, decorators: Iterable[ast.expr]) -> bool:
        """Return whether decorators may do more than return a function or class."""
        calls = [node.func if isinstance(node, ast.Call) else node for node in decorators]
        return not all(map(self._is_pure, calls))

    def _calls(self, values: Iterable[ast.AST]) -> bool:
        """Return whether values are computed by calls that may do more than return a value."""
        nodes = (node for value in values for node in ast.walk(value))
        return any(
            isinstance(node, ast.NamedExpr)
            or isinstance(node, ast.Call)
            and not self._is_pure(node.func)
            for node in nodes
        )

    def _is_pure(self, function: ast.expr) -> bool:
        """Return whether a function, as it is written, does nothing but return a value."""
        dotted = dotted_name(function)
        if dotted is None:  # a method of a value, which is judged on its own
            return isinstance(function, ast.Attribute)
        first, *rest = dotted
        if not self.binds(first):
            return first in PURE_NAMES
        places = {".".join([full, *rest]) for full in self.imported.imports.get(first, ())}
        return (
            bool(places)
            and first not in self._defined
            and all(
                place in PURE_PLACES or place.partition(".")[0] in PURE_MODULES for place in places
            )
        )


def _is_definition(
    node: ast.AST,
) -> TypeGuard[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def _flat(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield top-level statements without strings and without blocks for type checkers alone."""
    for statement in statements:
        if isinstance(statement, ast.If) and is_for_type_checkers(statement):
            yield from _flat(statement.orelse)
        elif not is_docstring(statement):
            yield statement


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    return body[1:] if is_docstring(body[0]) else body


def is_for_type_checkers(node: ast.If) -> bool:
    """Return whether a block is `if TYPE_CHECKING`."""
    name = dotted_name(node.test)
    return name is not None and name[-1] == "TYPE_CHECKING"


def dotted_name(node: ast.AST) -> tuple[str, ...] | None:
    """Return `a.b.c` as a tuple; None if the expression is not only names and dots."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return (node.id, *reversed(parts)) if isinstance(node, ast.Name) else None


def _is_name(target: ast.expr) -> bool:
    """Return whether an assignment to `target` binds names and does nothing else."""
    if isinstance(target, ast.Tuple | ast.List):
        return all(map(_is_name, target.elts))
    return isinstance(target, ast.Name)


def _bound(statement: ast.stmt) -> set[str]:
    """Return the names that a top-level statement binds or changes; imports excluded."""
    if _is_definition(statement):
        return {statement.name}
    return {name for node in ast.walk(statement) if (name := _bound_by(node))}


def _bound_by(node: ast.AST) -> str | None:
    """Return the name that a node binds, or whose item or attribute it sets."""
    if _is_definition(node) or isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        return node.name
    if isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load):
        node = node.value
        return node.id if isinstance(node, ast.Name) else None
    return node.id if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load) else None


def absolute(node: ast.ImportFrom, package: str) -> str:
    """Return the module that a statement in `package` imports from, with its full name."""
    if not node.level:
        return node.module or ""
    parents = package.split(".")
    parents = parents[: len(parents) + 1 - node.level]
    return ".".join([*parents, *([node.module] if node.module else [])])
