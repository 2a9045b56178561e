"""A fingerprint covers all code that a stage can run, and no code that it cannot run."""

import ast
import inspect
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType

import pytest

from wsss.runs import fingerprint as module
from wsss.runs.fingerprint import fingerprint, reached
from wsss.runs.run import MODULES, Run
from wsss.settings import Params
from wsss.settings.resolve import validate_params
from wsss.stages.prepare import prepare

PACKAGE = module.PACKAGE
METHODS = ("cam", "mctformer", "pcss", "semformer", "crt", "pcsformer", "toco")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    module.clear_caches()
    yield
    module.clear_caches()


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def print_of(folder: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> str:
    """Return the fingerprint of the module `stage` of a package with these files."""
    write(folder, files)
    monkeypatch.setattr(module, "PACKAGE", folder)
    module.clear_caches()
    return fingerprint("stage")


# Name of the case: the files before, the file that changes, and whether a stage has to run again.
CASES: dict[str, tuple[dict[str, str], dict[str, str], bool]] = {
    "a function that nobody uses": (
        {"stage.py": "from wsss.files import f\nf()\n", "files.py": "def f(): ...\n"},
        {"files.py": "def g(): ...\ndef f(): ...\n"},
        False,
    ),
    "a constant that nobody uses": (
        {"stage.py": "from wsss.files import f\nf()\n", "files.py": "def f(): ...\nA = 1\n"},
        {"files.py": "def f(): ...\nA = 2\n"},
        False,
    ),
    "an import that nobody uses": (
        {
            "stage.py": "from wsss.files import f\nf()\n",
            "files.py": "def f(): ...\n",
            "b.py": "X = 1\n",
        },
        {"files.py": "from wsss.b import X\nimport numpy as np\ndef f(): ...\n"},
        False,
    ),
    "definitions in another order": (
        {"stage.py": "from wsss.a import f\nf()\n", "a.py": "def f(): g()\ndef g(): ...\n"},
        {"a.py": "def g(): ...\n\n\ndef f(): g()  # calls\n"},
        False,
    ),
    "a helper of a helper": (
        {
            "stage.py": "from wsss.a import f\ndef run(): f()\n",
            "a.py": "from wsss.b import g\ndef f(): return g()\n",
            "b.py": "def g(): return _h()\ndef _h(): return 1\n",
        },
        {"b.py": "def g(): return _h()\ndef _h(): return 2\n"},
        True,
    ),
    "a constant through another module": (
        {
            "stage.py": "from wsss import a\ndef run(): return a.b.N\n",
            "a.py": "from wsss import b\n",
            "b.py": "N = 1\n",
        },
        {"b.py": "N = 2\n"},
        True,
    ),
    "a constant that another constant is made from": (
        {"stage.py": "from wsss.a import N\nprint(N)\n", "a.py": "M = 1\nN = M + 1\n"},
        {"a.py": "M = 2\nN = M + 1\n"},
        True,
    ),
    "an item that is added to a constant": (
        {"stage.py": "from wsss.a import N\nprint(N)\n", "a.py": "N = {}\n"},
        {"a.py": "N = {}\nN['x'] = 1\n"},
        True,
    ),
    "another function of a module": (
        {
            "stage.py": "from wsss import crf\ndef run(): crf.infer()\n",
            "crf.py": "def infer(): ...\ndef other(): ...\n",
        },
        {"crf.py": "def infer(): ...\ndef other(): return 1\n"},
        False,
    ),
    "a function of a module": (
        {
            "stage.py": "import wsss.crf\ndef run(): wsss.crf.infer()\n",
            "crf.py": "def infer(): ...\n",
        },
        {"crf.py": "def infer(): return 1\n"},
        True,
    ),
    "a module that is passed as a value": (
        {
            "stage.py": "from wsss import crf\ngetattr(crf, 'in' + 'fer')()\n",
            "crf.py": "def infer(): ...\n",
        },
        {"crf.py": "def infer(): return 1\n"},
        True,
    ),
    "a module that is imported by its name": (
        {
            "stage.py": "import importlib\nm = importlib.import_module('wsss.crf')\n",
            "crf.py": "N = 1\n",
        },
        {"crf.py": "N = 2\n"},
        True,
    ),
    "a module whose names are all imported": (
        {
            "stage.py": "from wsss.a import *\ninfer()\n",
            "a.py": "from wsss.b import *\n",
            "b.py": "N = 1\n",
        },
        {"b.py": "N = 2\n"},
        True,
    ),
    "a module that answers for its names": (
        {"stage.py": "from wsss.a import x\n", "a.py": "def __getattr__(name): return N\nN = 1\n"},
        {"a.py": "def __getattr__(name): return N\nN = 2\n"},
        True,
    ),
    "code that looks names up": (
        {
            "stage.py": "from wsss.a import f\nf()\n",
            "a.py": "def f(): return globals()['g']\ndef g(): ...\n",
        },
        {"a.py": "def f(): return globals()['g']\ndef g(): return 1\n"},
        True,
    ),
    "an import inside a function": (
        {"stage.py": "def run():\n    from .a import f as g\n    g()\n", "a.py": "def f(): ...\n"},
        {"a.py": "def f(): return 1\n"},
        True,
    ),
    "an import that may fail": (
        {
            "stage.py": "from wsss.a import b\nb.f()\n",
            "a.py": "try:\n    from wsss import b\nexcept ImportError:\n    b = None\n",
            "b.py": "def f(): ...\n",
        },
        {"b.py": "def f(): return 1\n"},
        True,
    ),
    "a method of a class": (
        {
            "stage.py": "from wsss.a import A\nA().f()\n",
            "a.py": "class A:\n    def f(self): return 1\n",
        },
        {"a.py": "class A:\n    def f(self): return 2\n"},
        True,
    ),
    "a method of a base class": (
        {
            "stage.py": "from wsss.a import A\nA().f()\n",
            "a.py": "from wsss import b\nclass A(b.B): ...\n",
            "b.py": "class B:\n    def f(self): return 1\n",
        },
        {"b.py": "class B:\n    def f(self): return 2\n"},
        True,
    ),
    "a class that only an annotation names": (
        {
            "stage.py": "from wsss.a import A\ndef run(a: 'list[A]'): return a[0].f()\n",
            "a.py": "class A:\n    def f(self): return 1\n",
        },
        {"a.py": "class A:\n    def f(self): return 2\n"},
        True,
    ),
    "a decorator": (
        {
            "stage.py": "from wsss.a import f\nf()\n",
            "a.py": "from wsss.b import twice\n@twice\ndef f(): ...\n",
            "b.py": "def twice(f): return f\n",
        },
        {"b.py": "def twice(f): return lambda: (f(), f())\n"},
        True,
    ),
    "a function that registers itself": (
        {
            "stage.py": "from wsss.a import TABLE\nimport wsss.b\nprint(TABLE)\n",
            "a.py": "TABLE = {}\ndef register(f):\n    TABLE[f.__name__] = f\n    return f\n",
            "b.py": "from wsss.a import register\n@register\ndef g(): return 1\n",
        },
        {"b.py": "from wsss.a import register\n@register\ndef g(): return 2\n"},
        True,
    ),
    "a class that its base finds": (
        {
            "stage.py": "from wsss.a import A\nfrom wsss import b\n[c() for c in A.__subclasses__()]\n",
            "a.py": "class A: ...\n",
            "b.py": "from wsss.a import A\nclass B(A):\n    x = 1\n",
        },
        {"b.py": "from wsss.a import A\nclass B(A):\n    x = 2\n"},
        True,
    ),
    "a statement that runs on import": (
        {"stage.py": "from wsss.a import f\nf()\n", "a.py": "import numpy as np\ndef f(): ...\n"},
        {"a.py": "import numpy as np\nnp.seterr(all='raise')\ndef f(): ...\n"},
        True,
    ),
    "an attribute of another library": (
        {"stage.py": "from wsss.a import f\nf()\n", "a.py": "import torch\ndef f(): ...\n"},
        {"a.py": "import torch\ntorch.backends.x = True\ndef f(): ...\n"},
        True,
    ),
    "a statement in a package on the way": (
        {
            "stage.py": "from wsss.p.a import f\nf()\n",
            "p/a.py": "def f(): ...\n",
            "p/__init__.py": "",
        },
        {"p/__init__.py": "import numpy\nnumpy.seterr(all='raise')\n"},
        True,
    ),
    "another library under the same name": (
        {
            "stage.py": "from wsss.a import f\nf()\n",
            "a.py": "import math as m\ndef f(): return m.sqrt(2)\n",
        },
        {"a.py": "import cmath as m\ndef f(): return m.sqrt(2)\n"},
        True,
    ),
    "imports for type checkers": (
        {
            "stage.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from wsss.a import A\n"
            "def f(a: 'A'): ...\n",
            "a.py": "class A: ...\n",
        },
        {"a.py": "class A:\n    x = 1\n"},
        False,
    ),
    "names that import each other": (
        {
            "stage.py": "from wsss.a import x\nx()\n",
            "a.py": "from wsss.b import x\n",
            "b.py": "from wsss.a import x\n",
        },
        {"b.py": "def x(): ...\n"},
        True,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_change_does(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, changed, is_needed = CASES[case]
    before = print_of(tmp_path, monkeypatch, {"__init__.py": "", **files})
    assert (print_of(tmp_path, monkeypatch, changed) != before) is is_needed


def stages() -> dict[str, tuple[str, ...]]:
    """Return the modules that a stage starts from, for every stage and some methods."""
    entries: dict[str, tuple[str, ...]] = {name: (f"stages.{name}",) for name in MODULES.values()}
    for stage in ("train", "cam"):
        for method in METHODS:
            entries[f"{stage}:{method}"] = (f"stages.{stage}", f"methods.{method}.method")
    return entries


def names_in(node: ast.AST) -> set[str]:
    """Return every identifier in a piece of code, whatever it refers to."""
    names = set()
    for part in ast.walk(node):
        names |= {
            str(getattr(part, key))
            for key in ("id", "attr", "name", "module")
            if getattr(part, key, None)
        }
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            names.add(part.value)
    return names


def defined(tree: ast.Module) -> dict[str, ast.stmt]:
    """Return the functions, classes and simple constants of a module by name."""
    named: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            named[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            named[node.targets[0].id] = node
    return named


def certainly_used(entry: tuple[str, ...], trees: dict[str, ast.Module]) -> set[tuple[str, str]]:
    """Return what `from wsss... import name` and names of the same module lead to, and nothing else."""
    waiting = [(name, other) for name in entry for other in defined(trees[name])]
    used: set[tuple[str, str]] = set()
    while waiting:
        place = waiting.pop()
        name, definition = place
        if (
            place in used
            or name in module.SILENT
            or definition not in defined(trees.get(name, ast.Module([], [])))
        ):
            continue
        used.add(place)
        loaded = names_in(defined(trees[name])[definition])
        waiting += [(name, other) for other in loaded]
        for node in trees[name].body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wsss."):
                source = str(node.module).removeprefix("wsss.")
                waiting += [(source, a.name) for a in node.names if (a.asname or a.name) in loaded]
    return used


def possibly_used(entry: tuple[str, ...], trees: dict[str, ast.Module]) -> set[str]:
    """Return every identifier that can be reached if equal names were always the same thing."""
    names = {name for module_name in entry for name in names_in(trees[module_name])}
    by_name: dict[str, list[ast.stmt]] = {}
    for tree in trees.values():
        for name, node in defined(tree).items():
            by_name.setdefault(name, []).append(node)
    waiting = list(names)
    for tree in trees.values():  # what runs on import, in every module
        kinds = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
        waiting += [n for node in tree.body if not isinstance(node, kinds) for n in names_in(node)]
    while waiting:
        name = waiting.pop()
        names.add(name)
        waiting += {n for node in by_name.pop(name, ()) for n in names_in(node)} - names
    return names


def mutated(node: ast.stmt) -> str:
    """Return a definition with one more statement, or another value."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        node = ast.parse(ast.unparse(node)).body[0]
        node.body.append(ast.parse("changed = 1").body[0])  # type: ignore[attr-defined]
        return ast.unparse(node)
    return f"{ast.unparse(node)} if 1 else None"


@pytest.mark.slow
def test_a_mutated_definition_reruns_the_stages_that_use_it_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(PACKAGE, tmp_path / "wsss", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "PACKAGE", copy)
    paths = {
        ".".join(p.relative_to(copy).with_suffix("").parts).removesuffix(".__init__"): p
        for p in sorted(copy.rglob("*.py"))
    }
    trees = {name: ast.parse(path.read_text()) for name, path in paths.items()}
    certain = {stage: certainly_used(entry, trees) for stage, entry in stages().items()}
    possible = {stage: possibly_used(entry, trees) for stage, entry in stages().items()}
    before = {stage: fingerprint(*entry) for stage, entry in stages().items()}
    places = [(m, n) for m, tree in trees.items() if m not in module.SILENT for n in defined(tree)]
    for name, definition in random.Random(0).sample(sorted(places), 16):  # noqa: S311
        text = paths[name].read_text()
        tree = ast.parse(text)
        old = defined(tree)[definition]
        parts = [mutated(node) if node is old else ast.unparse(node) for node in tree.body]
        paths[name].write_text("\n".join(parts))
        module.clear_caches()
        changed = {stage for stage, e in stages().items() if fingerprint(*e) != before[stage]}
        paths[name].write_text(text)
        assert {s for s in before if (name, definition) in certain[s]} <= changed, (
            name,
            definition,
        )
        assert changed <= {s for s in before if definition in possible[s]}, (name, definition)


def module_of(code: CodeType) -> str:
    """Return the module of the package that a piece of code is in."""
    path = Path(code.co_filename).relative_to(PACKAGE)
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


SILENT_FILES = {f"{PACKAGE / name.replace('.', '/')}.py" for name in module.SILENT}


def is_silent(frame: FrameType | None) -> bool:
    """Return whether code runs in, or for, a module that is left out of fingerprints."""
    while frame is not None:
        if frame.f_code.co_filename in SILENT_FILES:
            return True
        frame = frame.f_back
    return False


def test_all_code_that_runs_is_covered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace every function that a stage calls; the fingerprint must hold it or the class it is in."""
    monkeypatch.chdir(tmp_path)
    codes: set[CodeType] = set()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        is_function = event == "call" and bool(code.co_flags & inspect.CO_OPTIMIZED)
        is_new = is_function and code not in codes  # the body of a class runs on import
        if is_new and code.co_filename.startswith(str(PACKAGE)) and not is_silent(frame):
            codes.add(code)

    params = validate_params(
        {"data": {"shapes": {"train": 16, "val": 6, "min_px": 48, "max_px": 64}}}
    )
    sys.setprofile(note)
    try:
        prepare(params, "shapes")
    finally:
        sys.setprofile(None)
    covered = {
        (p.module.removeprefix("wsss."), p.name)
        for p in reached(("stages.prepare", "datasets.drawn.shapes"))
    }
    ran = {(module_of(code), code.co_qualname.split(".")[0]) for code in codes}
    ran = {(name, definition) for name, definition in ran if definition[0] != "<"}
    assert ("datasets.drawn.shapes", "draw") in ran
    assert ran <= covered


def test_an_unused_function_of_a_shared_module_changes_no_stage_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(Params(), "shapes", "cam", "common", 0)
    before = {stage: run.code(stage) for stage in run.stages()}
    copy = shutil.copytree(PACKAGE, tmp_path / "wsss", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "PACKAGE", copy)
    files = copy / "storage" / "files.py"
    files.write_text(files.read_text() + "\n\ndef unused() -> int:\n    return 1\n")
    module.clear_caches()
    assert {stage: run.code(stage) for stage in run.stages()} == before
    files.write_text(
        files.read_text().replace("def replacing(", "def replacing(  # noqa\n    *_: object, ", 1)
    )
    module.clear_caches()
    assert run.code("cam") != before["cam"]
