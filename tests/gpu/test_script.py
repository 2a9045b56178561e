"""The script behind `make gpu`, on a processor with networks of toy size."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "run.py"
MARKS = ("<!-- measured: from here -->", "<!-- measured: to here -->")


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--small", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_script_measures_every_part_and_writes_the_page(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    page.write_text(f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n")
    done = call("--method", "cam", "--page", str(page))
    assert done.returncode == 0, done.stdout + done.stderr
    written = page.read_text()
    assert written.startswith("before\n")
    assert "old" not in written
    for heading in ("## Parity and equal bytes", "## Rates", "## Stages"):
        assert heading in written
    assert "| CAM inference | toy |" in written
    rows = [line.split(" | ") for line in written.splitlines() if line.startswith("| shapes/")]
    assert {"classifier", "cam", "affinity", "walk", "segmenter", "masks"} <= {
        row[1] for row in rows
    }
    assert {row[-1].strip(" |") for row in rows} == {"ok"}
    assert " passed" in written


@pytest.mark.slow
def test_what_the_budget_leaves_out_is_named() -> None:
    done = call("--method", "cam", "--part", "stages", "--budget", "0.001")
    assert done.returncode == 0, done.stderr
    assert "0 stages ran, 0 failed, and 1 runs did not end in time" in done.stdout
    assert "not run: the time was over" in done.stdout
