"""A pond of its own for each case, and the counts of what was tried."""

import json
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import chdir
from pathlib import Path
from typing import Any

import laws
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Count the cases that a law was tried on."""
    before = laws.tried
    yield
    item.user_properties.append(("drawn", laws.tried - before))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many inputs were tried and answered, and how many cases the laws held for."""
    counts = tally(terminalreporter.stats)
    if any(counts.values()):
        terminalreporter.write_line(sentence(counts))
        if path := os.environ.get("WSSS_FAULTS"):
            Path(path).write_text(json.dumps(counts))


def tally(stats: dict[str, list[Any]]) -> dict[str, int]:
    """Return the sums of what the reports of all tests say."""
    reports = [r for kind in ("passed", "failed") for r in stats.get(kind, ()) if r.when == "call"]
    counts = {"inputs": 0, "answered": 0, "drawn": 0}
    for report in reports:
        said = dict(report.user_properties)
        counts["inputs"] += said.get("input", 0)
        counts["answered"] += said.get("input", 0) * report.passed
        counts["drawn"] += said.get("drawn", 0) * report.passed
    return counts


def sentence(counts: dict[str, int]) -> str:
    """Return the counts in words."""
    return (
        f"bad inputs answered/tried: {counts['answered']}/{counts['inputs']}; "
        f"property cases run: {counts['drawn']}"
    )
