"""The commands behind docs/speed.md and docs/cost.md."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from wsss.storage.files import read_json, write_json

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "tests" / "benchmarks"
MARKS = ("<!-- measured: from here -->", "<!-- measured: to here -->")


def call(script: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def cells(said: str) -> list[list[str]]:
    lines = [line for line in said.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]


@pytest.mark.slow
def test_a_benchmark_is_run_twice_and_its_table_replaces_the_old_one(tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    page.write_text(f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n")
    said = call("run.py", "store", "--page", str(page))
    assert "run 1: CAMs on disk" in said
    assert "run 2: CAMs on disk" in said
    heading, row = cells(said)
    assert heading[4:6] == ["ratio", "again"]
    assert row[4] == row[5]  # sizes of files do not vary
    assert float(row[4].rstrip("x")) > 20  # of dictionaries of whole float32 maps
    written = page.read_text()
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    assert "old" not in written
    assert "| CAMs on disk |" in written


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on(tmp_path: Path) -> None:
    row = {"what": "CAMs on disk", "setting": "before", "unit": "MB", "plain": 50.0, "ours": 1.0}
    entry = {"run": 1, "name": "store", "rows": [{**row, "memory": None, "agreement": "equal"}]}
    kept = tmp_path / "kept.jsonl"
    kept.write_text(json.dumps(entry) + "\n")
    _, found = cells(call("run.py", "store", "--rows", str(kept)))
    assert found[1] == "before"
    assert found[4] == "50.00x"
    assert float(found[5].rstrip("x")) < 40
    assert [json.loads(line)["run"] for line in kept.read_text().splitlines()] == [1, 2]


def test_a_benchmark_that_does_not_exist_is_named() -> None:
    command = [sys.executable, str(BENCHMARKS / "run.py"), "speed"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no benchmark is called speed" in done.stderr


def test_missed_goals_and_unsteady_ratios_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from measure import Row
    from page import table

    row = Row("walk", "one image", "s", 3.0, 2.0, (10.0, 5.0), "equal", 2.0, "It is small.")
    again = Row("walk", "one image", "s", 3.0, 1.0, (10.0, 5.0), "equal", 2.0, "It is small.")
    rate = Row("loader", "one core", "images/s", 2.0, 80.0, None, "", 1.0)
    fast = Row("curve", "one image", "s", 5.0, 2.0, None, "equal", 2.0)
    once = Row("planning", "a study", "s wall", None, 3.0, None, "")
    said = table([row, rate, fast, once], [again, rate, fast])
    assert "Missed: curve" not in said
    assert "| planning | a study |  | 3 s wall |  |  |  |  |  |" in said
    assert "| 1.50x | 3.00x | 2x | 10 -> 5 MB | equal |" in said
    assert "Ratios that differ by 15% or more between the runs: walk 100%." in said
    assert "Missed: walk, 1.50x and 3.00x instead of 2x. It is small." in said
    assert "40.00x" in said


@pytest.mark.slow
def test_a_dataset_has_a_cost(tmp_path: Path) -> None:
    page = tmp_path / "cost.md"
    page.write_text("".join(f"{mark}\n" for mark in MARKS))
    counted = tmp_path / "counted.json"
    small = tmp_path / "small.yaml"
    test = "{scales: [0.5], mirror: false}"
    small.write_text(f"segmenter: {{augment: {{crop_px: 65}}, test: {test}}}\n")
    arguments = ("--method", "supervised", "--counted", str(counted), "--params", str(small))
    call("cost.py", "voc12", *arguments, "--page", str(page))
    *rates, heading, training, masks, total = cells(page.read_text())
    assert len(rates) == 5  # a heading and four rates
    assert heading[1:] == ["stage", "PFLOP", "GPU hours", "core hours"]
    assert training[1] == "training segmenter"
    assert masks[1] == "segmentation"
    assert float(masks[4]) > 0  # the CRF
    parts = float(training[2].replace(",", "")) + float(masks[2].replace(",", ""))
    assert abs(parts - float(total[2].replace(",", ""))) <= 1
    own = read_json(counted)
    assert abs(sum(own["voc12 supervised"].values()) - parts) <= 1
    write_json(counted, {"voc12 supervised": {"training segmenter": 7.0}})  # a call that goes on
    *_, training, masks, total = cells(call("cost.py", "voc12", *arguments))
    assert training[2] == total[2] == "7"
    assert float(masks[4]) > 0
