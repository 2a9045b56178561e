"""A pond of its own for each case, and the counts of what was tried."""

import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pond
import pytest


@pytest.fixture(scope="session")
def spring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a pond with its index and a run; do not write to it."""
    folder = pond.dig(tmp_path_factory.mktemp("spring"))
    with chdir(folder):
        pond.fill()
    return folder


@pytest.fixture
def ponds(spring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the pond, which is the current folder."""
    folder = tmp_path / "ponds"
    shutil.copytree(spring, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def tried(record_property: Callable[[str, object], None]) -> None:
    """Count a test as one bad input; it is answered if the test passes."""
    record_property("input", 1)
