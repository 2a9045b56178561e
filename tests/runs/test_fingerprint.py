"""Fingerprints follow code and nothing else; what the Snakefile imports stays light."""

import shutil
from pathlib import Path

import pytest

from wsss.runs import fingerprint as module
from wsss.runs.fingerprint import fingerprint, reached
from wsss.runs.run import MODULES, Run
from wsss.runs.syntax import source_digest
from wsss.settings import Params


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "a.py").write_text("from wsss.b import f\nX = f(1)\n")
    (tmp_path / "b.py").write_text(
        '"""Say what."""\ndef f(x):\n    """Double."""\n    return 2 * x\n'
    )
    monkeypatch.setattr(module, "PACKAGE", tmp_path)
    return tmp_path


def fresh(*names: str, folders: tuple[Path, ...] = ()) -> str:
    module.clear_caches()
    try:
        return fingerprint(*names, folders=folders)
    finally:
        module.clear_caches()


def reached_modules(*names: str, folders: tuple[Path, ...] = ()) -> set[str]:
    """Return the modules, named below wsss, of which a definition is reached."""
    return {place.module.removeprefix("wsss.") for place in reached(names, folders) if place.name}


@pytest.mark.parametrize(
    ("text", "is_equal"),
    [
        ("# why\ndef f(x):\n\n    return 2 * x  # twice\n", True),
        ('"""Other words."""\ndef f(x):\n    """Say it differently."""\n    return 2*x\n', True),
        ("def f(x):\n    return 3 * x\n", False),
    ],
)
def test_comments_and_docstrings_do_not_count_and_code_does(
    package: Path, text: str, is_equal: bool
) -> None:
    before = fresh("a")
    (package / "b.py").write_text(text)
    assert (fresh("a") == before) is is_equal


SOURCE = '''
"""A module."""
from __future__ import annotations

@cached(1e-3, key=None)
class Walk(Base):
    """A walk."""
    steps: int = 4

    async def go(self, *rest: list[float], fast=True, **named) -> str | None:
        """Go."""
        return f"{self.steps:>{rest[0]}} \u00fc" if fast else "a" "b"

match x[1:]:
    case {"k": [1, *_], **others} | Walk(steps=2j):
        y = lambda: (yield)
'''


def test_equal_code_has_one_fingerprint_on_every_version_of_python() -> None:
    expected = "62e3f03a8de88c65de1b4582bcd239381ce62c393eeeb1363e3469dfe6fdb75a"
    assert source_digest(SOURCE) == expected


def test_own_methods_have_the_code_that_they_import_of_their_folder_and_of_the_package(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "topk"
    folder.mkdir()
    (folder / "method.py").write_text(
        "from own_methods.topk.network import Net\nfrom .losses import loss\n"
        "from wsss.methods.cam.method import CAM\n"
    )
    (folder / "network.py").write_text("class Net: ...\n")
    (folder / "losses.py").write_text(
        "from . import weights\ndef loss(x):\n    return weights.W * x\n"
    )
    (folder / "weights.py").write_text("W = 1\n")
    (folder / "unused.py").write_text("X = 1\n")
    (folder / "__init__.py").write_text('"""Top-k."""\n')
    names, folders = ("own_methods.topk.method",), (tmp_path,)
    modules = reached_modules(*names, folders=folders)
    own = {"method", "network", "losses", "weights"}
    assert {name for name in modules if name.startswith("own_")} == {
        f"own_methods.topk.{name}" for name in own
    }  # fmt: skip
    assert {"methods.cam.method", "nets.build"} <= modules
    before = fresh(*names, folders=folders)
    (folder / "unused.py").write_text("X = 2\n")
    assert fresh(*names, folders=folders) == before
    (folder / "weights.py").write_text("W = 2\n")
    assert fresh(*names, folders=folders) != before
    copy = shutil.copytree(tmp_path, tmp_path.parent / f"{tmp_path.name}-elsewhere")
    assert fresh(*names, folders=(copy,)) == fresh(*names, folders=folders)


def test_a_stage_has_the_code_it_imports_and_no_other() -> None:
    cams, walk = reached_modules("stages.cam", "methods.cam.method"), reached_modules("stages.walk")
    assert {
        "inference.multiscale",
        "storage.cam_archive",
        "nets.backbone",
        "methods.cam.method",
        "data.images",
    } <= cams
    assert {"refine.random_walk", "refine.affinity", "nets.affinitynet"} <= walk
    assert "refine.random_walk" not in cams
    assert "methods.cam.method" not in walk
    assert "nets.deeplab" not in cams | walk


def test_every_stage_of_a_run_has_a_fingerprint() -> None:
    run = Run(Params(), "shapes", "cam", "common", 0)
    assert all(len(run.code(stage)) == 16 for stage in run.stages())
    assert run.code("classifier") != run.code("cam")
    assert run.code("eval/seed") == run.code("eval/segmentation")
    assert set(MODULES.values()) <= {path.stem for path in (module.PACKAGE / "stages").glob("*.py")}
