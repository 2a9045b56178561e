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


def test_runs_of_full_size_are_the_published_ones_with_random_weights_and_few_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    from bench import Bench

    bench = Bench.of(False, 4, 60.0, 72)
    runs = bench.runs([])
    assert len({run.method for run in runs}) == 15
    assert runs[0].protocol == "published"
    for run in runs:
        for network in run.settings.networks.values():
            assert network.weights == "none"
            assert network.train.steps == bench.steps
    [crt] = [run for run in runs if (run.method, run.protocol) == ("crt", "published")]
    assert crt.settings.networks["classifier"].auxiliary_cnn.weights == "none"
    assert crt.settings.networks["classifier"].augment.crop_px > 300


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
