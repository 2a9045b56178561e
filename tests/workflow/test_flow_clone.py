"""`make demo` and `make test` in one clone, in both orders: neither disturbs the other."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import Checkout

# Tests that fail if they meet what the demo has made.
TESTS = " ".join(
    f"tests/workflow/test_flow_plan.py::{name}"
    for name in ("test_a_bare_dry_run_lists_every_job", "test_a_plan_can_end_after_any_stage")
)


def make(clone: Checkout, target: str, **variables: str) -> str:
    """Run a target of the Makefile with the Python of this test: all is set up."""
    settings = [f"{name}={value}" for name, value in variables.items()]
    done = clone.call("env", *settings, "make", target, "UV=true", "RUN=", "CORES=2")
    return done.stdout + done.stderr


def clone_of(checkout: Checkout, folder: Path) -> Checkout:
    """Return a copy in which Git tracks the sources and nothing that a run made."""
    clone = checkout.copy(folder)
    (clone.folder / ".venv").mkdir()
    clone.call("git", "init", "--quiet", "--initial-branch", "main")
    clone.call("git", "add", "--", ".", ":!results", ":!said.txt")
    clone.call("git", "commit", "--quiet", "--message", "sources")
    return clone


@pytest.fixture
def clone(fresh: Checkout, tmp_path: Path) -> Iterator[Checkout]:
    """Yield a clone in which nothing has been made, with the shortest of all methods."""
    clone = clone_of(fresh, tmp_path / "clone")
    clone.set({"methods": ["supervised"]})
    yield clone
    shutil.rmtree(tmp_path / "clone")


@pytest.mark.slow
def test_the_tests_pass_before_and_after_the_demo(clone: Checkout) -> None:
    assert "2 passed" in make(clone, "test", PYTEST_ADDOPTS=TESTS)
    table = clone.folder / "results/table.md"
    assert not table.exists()
    said = make(clone, "demo")
    assert table.read_text() in said
    assert "2 passed" in make(clone, "test", PYTEST_ADDOPTS=TESTS)
    assert clone.dry({}) == [set()]


def test_results_and_other_leftovers_are_not_copied_but_new_code_is(
    made: Checkout, tmp_path: Path
) -> None:
    clone = clone_of(made, tmp_path / "clone")
    names = ("wsss/new.py", "workflow/rules/new.smk", "exported/new.png", "results/new.csv")
    for name in names:
        (clone.folder / name).parent.mkdir(exist_ok=True)
        (clone.folder / name).touch()
    program = "import checkout; print(*checkout.sources(), sep='\\n')"
    path = f"PYTHONPATH={clone.folder}:{clone.folder}/tests/workflow"
    listed = clone.call("env", path, "python", "-c", program).stdout.splitlines()
    assert [name for name in names if name in listed] == list(names[:2])
    assert not [name for name in listed if name.startswith(("results/", "work/", "said.txt"))]
    assert {"Snakefile", "params.yaml", ".dvc/config", "wsss/cli.py"} <= set(listed)
