"""The rooms of the package: who may import whom, and what must be usable without torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import wsss

PACKAGE = Path(wsss.__file__).parent
# A room imports rooms of lower tiers, never of higher ones.
TIERS = (
    {"__main__", "cli", "api"},
    {"export"},
    {"stages"},
    {"methods", "training"},
    {"inference"},
    {"nets", "report"},
    {"datasets", "refine", "scores"},
    {"data", "runs"},
    {"settings", "machine"},
    {"storage", "progress"},
    {"errors", "randomness"},
)
NEVER = {("methods", "training"), ("report", "nets"), ("nets", "report")}
WITHOUT_TORCH = (
    "api.arrays",
    "api.pictures",
    "api.refinement",
    "api.results",
    "api.scoring",
    "cli",
    "data.images",
    "data.index",
    "data.labelmap",
    "data.normalisation",
    "data.problems",
    "datasets",
    "machine.lock",
    "machine.slurm",
    "report.tables",
    "runs",
    "settings",
    "stages.check",
    "stages.confident",
    "stages.evaluate",
    "stages.gather",
    "stages.prepare",
    "stages.pseudo",
    "stages.table",
    "storage.archive",
    "storage.cam_archive",
    "storage.files",
    "storage.plain_yaml",
)


def modules() -> Iterator[tuple[str, Path]]:
    """Yield the dotted name below `wsss` and the path of every module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        yield name.removesuffix(".__init__"), path


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the dotted name below `wsss` and the line of every import of ours, late ones too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}:{node.lineno} imports relatively"
            inner = node.module.split(".")
            names = [inner] if len(inner) > 1 else [[inner[0], alias.name] for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        else:
            continue
        yield from ((".".join(name[1:]), node.lineno) for name in names if name[0] == "wsss")


def room(name: str) -> str:
    return name.split(".")[0]


def edges() -> Iterator[tuple[str, str, str]]:
    """Yield (importing room, imported room, place in the source) between different rooms."""
    for name, path in modules():
        for other, line in imports(path):
            if room(name) != room(other) and name != "__init__":
                yield room(name), room(other), f"{path.relative_to(PACKAGE)}:{line}"


def test_every_module_has_its_room() -> None:
    tiers = set.union(*TIERS)
    assert {room(name) for name, _ in modules()} - {"__init__"} <= tiers
    assert len(list(PACKAGE.glob("*.py"))) <= 7


def test_imports_go_down_only() -> None:
    tier = {name: number for number, names in enumerate(TIERS) for name in names}
    wrong = [
        f"{place}: {importer} imports {imported}"
        for importer, imported, place in edges()
        if tier[imported] < tier[importer] or (importer, imported) in NEVER
    ]
    assert not wrong


def test_rooms_do_not_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for importer, imported, _ in edges():
        graph.setdefault(importer, set()).add(imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of rooms: {error.args[1]}")


def test_packages_hold_no_code_in_their_init_files() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        if path.parent not in (PACKAGE, PACKAGE / "settings"):
            assert len(ast.parse(path.read_text()).body) <= 1, f"{path} holds code"


def test_what_plans_and_tells_works_without_torch() -> None:
    names = [
        f"wsss.{name}".removesuffix(".")
        for name, _ in modules()
        if any(name == free or name.startswith(f"{free}.") for free in WITHOUT_TORCH)
    ]
    assert len(names) > 60
    code = (
        "import importlib, sys\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'torch', 'timm', 'torchvision'} & set(sys.modules)\n"
        "    assert not heavy, f'{name} imports {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
