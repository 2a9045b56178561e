"""The public names: cheap to import, visible to type checkers, documented."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT

import wsss

SOURCE = Path(wsss.__file__)


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_is_cheap_to_import() -> None:
    heavy = ("torch", "numpy", "pydantic", "pandas")
    code = f"import sys, wsss; dir(wsss); print([name for name in {heavy} if name in sys.modules])"
    assert python(code).strip() == "[]"


def test_results_and_scores_need_no_torch(study: Path) -> None:
    code = (
        "import sys, wsss\n"
        f"run = wsss.open_run('shapes/cam/common/s0', root={str(study)!r})\n"
        "name = run.images('train')[0]\n"
        "run.cam(name), run.labels('pseudo', name), run.score('seed'), run.table()\n"
        "wsss.confusion(run.truth(name), run.labels('seed', name), 4)\n"
        "print('torch' in sys.modules)\n"
    )
    assert python(code).strip() == "False"


def test_type_checkers_see_every_public_name() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(imported) == sorted(wsss.__all__)
    for name, module in imported.items():
        assert getattr(wsss, name) is getattr(importlib.import_module(str(module)), name)
    assert set(wsss.__all__) <= set(dir(wsss))
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert "__getattr__" not in functions  # every name would exist for type checkers
    assert SOURCE.with_name("py.typed").is_file()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'wsss' has no attribute 'opne_run'"):
        wsss.opne_run  # noqa: B018


def test_the_page_documents_every_public_name() -> None:
    text = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    members = [
        f"{kind.__name__.lower()}.{name}"
        for kind in (wsss.RunResults, wsss.Model)
        for name, member in inspect.getmembers(kind)
        if not name.startswith("_")
    ]
    assert len(members) > 20
    names = [name for name in wsss.__all__ if name != "Curve"]
    for name in names:
        assert f"`wsss.{name}" in text or f"`{name}`" in text, name
    for member in members:
        name = member.partition(".")[2]
        assert f".{name}" in text, member


def test_every_public_function_and_method_says_what_it_does() -> None:
    for name in wsss.__all__:
        value = getattr(wsss, name)
        assert inspect.getdoc(value), name
        for inner, member in inspect.getmembers(value) if inspect.isclass(value) else ():
            if not inner.startswith("_") and callable(member) and inner not in dir(BaseException):
                assert inspect.getdoc(member), f"{name}.{inner}"
