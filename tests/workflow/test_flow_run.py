"""What a run leaves behind: results, report, and the same bytes whatever happened on the way."""

import csv
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from checkout import ONE_THREAD, RUN, Checkout, ran
from processes import SECONDS

from wsss.runs.outputs import FIGURES


def test_the_table_is_printed_at_the_end(made: Checkout) -> None:
    table = (made.folder / "results/table.md").read_text()
    assert "segmentation" in table
    assert table in (made.folder / "said.txt").read_text()


def test_what_jobs_say_is_in_their_logs_and_on_the_terminal(made: Checkout) -> None:
    log = (made.folder / "logs/shapes/cam/common/s0/classifier.log").read_text()
    assert "classifier done" in log
    last = log.splitlines()[-1]
    assert f"shapes/cam/common/s0 classifier | {last}" in (made.folder / "said.txt").read_text()


def test_every_job_is_timed(made: Checkout) -> None:
    files = (made.folder / RUN).rglob("*.json")
    records = {path.stem for path in files if not path.stem.startswith("thresholds-")}
    timed = (made.folder / "benchmarks/shapes/cam/common/s0").rglob("*.tsv")
    assert {"classifier", "calibrate-cam", "seed"} <= records
    assert records <= {path.stem for path in timed}


def test_the_times_of_all_stages_add_up(made: Checkout) -> None:
    printed = made.call("wsss", "times", "--method", "cam").stdout
    heads, _, line = (
        [cell.strip() for cell in row.strip("| ").split("|")] for row in printed.splitlines()[:3]
    )
    row = dict(zip(heads, line, strict=True))
    assert (row["method"], row["protocol"], row["seeds"]) == ("CAM", "common", "1")
    stages = heads[heads.index("all") + 1 : heads.index("processor minutes")]
    assert {"training", "CAMs", "affinity labels", "segmenter", "thresholds, scores"} <= set(stages)
    rounding = 0.05 * (len(stages) + 1)
    assert sum(float(row[stage]) for stage in stages) == pytest.approx(
        float(row["all"]), abs=rounding
    )
    assert stages == sorted(stages, key=lambda stage: -float(row[stage]))  # longest first
    tables = (made.folder / "benchmarks/shapes/cam/common/s0").rglob("*.tsv")
    rows = [csv.DictReader(path.read_text().splitlines(), delimiter="\t") for path in tables]
    jobs = [job for table in rows for job in table]
    measured = sum(float(job["cpu_time"]) for job in jobs if job["cpu_time"] not in ("NA", "-"))
    assert float(row["processor minutes"]) == pytest.approx(measured / 60, abs=0.051)
    assert measured > 1
    assert 0.1 < float(row["largest memory, GB"]) < 50


def test_shards_are_gone_after_they_are_joined(made: Checkout) -> None:
    assert not list(made.folder.glob("work/**/*-of-*.zip"))


def test_jobs_read_what_the_command_line_changed(mine: Checkout) -> None:
    target = f"{RUN}/eval/seed.json"
    mine.snakemake(target, "--config", "evaluation={seed_threshold: 0.05}")
    record = json.loads((mine.folder / target).read_text())
    assert record["params"]["threshold"] == 0.05


@pytest.mark.slow  # one job after the other
def test_the_scheduler_sleeps_while_jobs_run(mine: Checkout) -> None:
    scores = sorted(
        path.relative_to(mine.folder).as_posix() for path in mine.folder.glob("work/**/eval/*.json")
    )
    said = mine.snakemake("--cores", "1", "--verbose", *scores, "--forcerun", "evaluate")
    ended = said.count("Finished jobid")
    assert ended >= 5  # and all but one of them waited
    assert said.count("Ready jobs: ") <= 2 * ended


def test_the_report_shows_table_panels_and_curves(mine: Checkout) -> None:
    mine.snakemake("--report", "report.html")
    page = (mine.folder / "report.html").read_text()
    for name in ("table.html", *(f"{figure}.svg" for figure in FIGURES)):
        assert name in page
    for category in ("Results", "Phenomena", "Images"):
        assert f'"{category}": {{"' in page
    for caption in (mine.folder / "workflow/report").glob("*.rst"):
        first = " ".join(caption.read_text().split()[:3]).replace("*", "")
        assert first in page, f"{caption} is in no report"
    for path in (mine.folder / "results/figures").glob("panels-*.png"):
        assert path.name in page


def test_a_failed_job_says_why_and_stops_the_run(mine: Checkout) -> None:
    (mine.folder / RUN / "pseudo.zip").write_bytes(b"not a zip")
    said = mine.snakemake(f"{RUN}/eval/pseudo.json", "--forcerun", "evaluate", status=1)
    assert "eval/pseudo | error: work/shapes/cam/common/s0/pseudo.zip is damaged" in said


def test_old_results_without_their_metadata_are_refused(mine: Checkout) -> None:
    for path in (mine.folder / ".snakemake/metadata").iterdir():
        path.unlink()
    mine.set({"segmenter": {"train": {"lr": 0.5}}})
    done = mine.call(sys.executable, "-m", "wsss", "table", status=2)
    assert "out of date" in done.stderr
    assert re.search(r"cam/common/s0 segmenter: segmenter.train.lr was [^,]*, is 0.5", done.stderr)
    assert len(done.stderr.strip().splitlines()) == 1


def stage(head: psutil.Process, name: str) -> psutil.Process:
    """Return the process of a stage once it runs."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until and head.status() != psutil.STATUS_ZOMBIE:
        for process in head.children(recursive=True):
            try:
                command = process.cmdline()
            except psutil.NoSuchProcess:
                continue
            if command[1:4] == ["-m", "wsss", name]:
                return process
        time.sleep(0.02)
    raise AssertionError(f"{name} did not begin")


def kill_stage(head: psutil.Process, name: str) -> None:
    """Kill the process of a stage; Snakemake reports it and ends."""
    process = stage(head, name)
    time.sleep(1.0)
    process.kill()
    assert head.wait(SECONDS) == 1


def kill_head(head: psutil.Process, name: str) -> None:
    """Kill Snakemake alone; the stage that it had started goes on to its end."""
    process = stage(head, name)
    head.kill()
    head.wait(SECONDS)
    psutil.wait_procs([process], SECONDS)


def kill_all(head: psutil.Process, name: str) -> None:
    """Kill everything at once, as a power cut does."""
    stage(head, name)
    time.sleep(0.5)
    os.killpg(head.pid, signal.SIGKILL)
    head.wait(SECONDS)


KILLS: list[tuple[Callable[[psutil.Process, str], None], str]] = [
    (kill_stage, "train"),
    (kill_head, "confident"),
    (kill_all, "walk"),
]


@pytest.fixture(scope="module")
def battered(fresh: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a run of one method in three shards that was killed three times and then finished."""
    checkout = fresh.copy(tmp_path_factory.mktemp("battered") / "repository")
    checkout.set({"methods": ["cam"], "shards": 3})
    for kill, name in KILLS:
        command = ("snakemake", "--cores", "2", "--set-threads", *ONE_THREAD)
        with checkout.running(*command) as head:
            kill(head, name)
        checkout.snakemake("--unlock")
    checkout.snakemake()
    return checkout


@pytest.mark.slow
def test_one_shard_and_three_give_equal_bytes(battered: Checkout, made: Checkout) -> None:
    patterns = [f"{RUN}/{name}.zip" for name in ("cam", "walk", "masks")]
    assert len(battered.artifacts(*patterns)) == len(patterns)
    assert battered.artifacts(*patterns) == made.artifacts(*patterns)


@pytest.mark.slow
def test_a_run_that_was_killed_ends_with_the_same_bytes(battered: Checkout, made: Checkout) -> None:
    whole = {
        name: content for name, content in made.artifacts().items() if "supervised" not in name
    }
    ended = battered.artifacts()
    assert sorted(ended) == sorted(whole)
    assert [name for name in whole if ended[name] != whole[name]] == []


@pytest.mark.slow
def test_a_kill_leaves_no_temporary_file(battered: Checkout) -> None:
    left = [path for path in Path(battered.folder, "work").rglob(".*") if path.is_file()]
    assert left == []


@pytest.mark.slow
def test_a_variant_begins_where_its_settings_differ(mine: Checkout) -> None:
    variant = "shapes/cam-small/common/s0"
    scales = {"segmenter": {"test": {"scales": [0.5]}}}
    mine.set({"methods": ["cam"], "variants": {"cam-small": {"method": "cam", "set": scales}}})
    before = mine.artifacts(f"{RUN}/*.*")
    assert ran(mine.snakemake()) == {"masks_shard", "masks", "evaluate", "results", "all"}
    assert mine.artifacts(f"{RUN}/*.*") == before
    made = {path.name for path in (mine.folder / "work" / variant).iterdir()}
    assert made == {"masks.zip", "masks.json", "eval"}
    with (mine.folder / "results/table.csv").open() as file:
        rows = {(row["method"], row["stage"]): row["miou"] for row in csv.DictReader(file)}
    for stage in ("seed", "walk", "pseudo"):
        assert rows["cam-small", stage] == rows["cam", stage]
    assert ("cam-small", "segmentation") in rows
    record = json.loads((mine.folder / "work" / variant / "masks.json").read_text())
    assert record["params"]["scales"] == [0.5]
    assert f"{RUN}/segmenter.safetensors" in record["inputs"]
    mine.call("wsss", "verify")
    assert mine.dry({}) == [set()]
    said = mine.call("wsss", "calibrate", variant, "cam").stderr
    assert f"{variant} has the calibrate-cam of shapes/cam/common/s0: it is computed there" in said
    (mine.folder / RUN / "walk.zip").write_bytes(b"cut")
    refused = mine.call("wsss", "evaluate", variant, "walk", status=2).stderr
    assert f"{RUN}/walk.zip is damaged. Run `wsss walk shapes/cam/common/s0`" in refused


@pytest.mark.slow  # two calls of Snakemake
def test_a_database_can_hold_snakemakes_notes(fresh: Checkout, tmp_path: Path) -> None:
    checkout = fresh.copy(tmp_path / "repository")
    options = ("work/shapes/index.json", "--persistence-backend", "db")
    checkout.snakemake(*options)
    assert (checkout.folder / ".snakemake/metadata.db").is_file()
    assert "Nothing to be done" in checkout.snakemake(*options)
    changed = ("--config", "data={shapes: {train: 17}}", "--dry-run")
    assert "Params have changed since last execution" in checkout.snakemake(*options, *changed)
