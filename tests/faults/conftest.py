"""A pond of its own for each case, and the counts of what was tried."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import chdir
from pathlib import Path
from typing import Any

import laws
import pond
import pytest
from run import summary


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


KINDS = {  # of what is tried in a module, in the summary
    "test_bad_images": "images",
    "test_bad_tables": "masks, tables, indexes",
    "test_bad_weights": "checkpoints",
    "test_bad_params": "settings",
    "test_bad_brought": "imports, regions",
    "test_storage": "disks",
    "test_head": "head",
    "test_fuzz": "readers",
    "test_laws_files": "files",
    "test_laws_images": "images",
    "test_laws_scores": "scores",
}


@pytest.fixture
def tried(record_property: Callable[[str, object], None], request: pytest.FixtureRequest) -> None:
    """Count a test as one bad input; it is answered if the test passes."""
    record_property("input", KINDS[request.module.__name__])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Count the cases that a law was tried on."""
    before = laws.tried
    yield
    if laws.tried > before:
        item.user_properties.append(("drawn", (KINDS[item.path.stem], laws.tried - before)))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many inputs were tried and answered, and how many cases the laws held for."""
    inputs, drawn = tally(terminalreporter.stats)
    if inputs or drawn:
        *_, line, cases = summary({}, inputs, drawn).splitlines()
        terminalreporter.write_line(f"{line}; {cases}")
        if path := os.environ.get("WSSS_FAULTS"):
            Path(path).write_text(json.dumps({"inputs": inputs, "drawn": drawn}))


def tally(stats: dict[str, list[Any]]) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
    """Return by kind how many inputs were answered and tried, and how many cases the laws held for."""
    answered, tried, drawn = Counter[str](), Counter[str](), Counter[str]()
    reports = [r for kind in ("passed", "failed") for r in stats.get(kind, ()) if r.when == "call"]
    for report in reports:
        properties = dict(report.user_properties)
        if kind := properties.get("input"):
            tried[kind] += 1
            answered[kind] += report.passed
        if report.passed and (cases := properties.get("drawn")):
            drawn[cases[0]] += cases[1]
    return {kind: (answered[kind], count) for kind, count in tried.items()}, dict(drawn)
