"""A copy of the repository whose params.yaml is the smoke preset, and one where it has been run."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import Checkout, finished, fresh_checkout, repro


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a copy of the repository in which nothing has been made yet; do not write to it."""
    return fresh_checkout(tmp_path_factory.mktemp("fresh") / "repository")


@pytest.fixture(scope="session")
def made(fresh: Checkout, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Checkout:
    """Return a copy in which the smoke preset has been run; do not write to it."""
    return finished(fresh, tmp_path_factory, worker_id)


@pytest.fixture
def mine(made: Checkout, tmp_path: Path) -> Iterator[Checkout]:
    """Return a copy of the finished run that a test may change."""
    yield made.copy(tmp_path / "repository")
    shutil.rmtree(tmp_path / "repository", ignore_errors=True)


@pytest.fixture(scope="session")
def recorded(made: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a repository whose run is recorded, committed and pushed to a remote folder."""
    folder = tmp_path_factory.mktemp("recorded")
    checkout = made.copy(folder / "repository")
    checkout.call("git", "init", "--quiet", "--initial-branch", "main")
    checkout.call("dvc", "remote", "add", "--default", "store", str(folder / "store"))
    assert repro(checkout) == set()
    checkout.call("git", "add", "--all")
    checkout.call("git", "commit", "--quiet", "--message", "run")
    checkout.call("dvc", "push", "--quiet")
    return checkout
