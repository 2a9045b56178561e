"""DVC records what Snakemake makes, and a fresh clone behaves like the place where it was made."""

import json
from pathlib import Path
from typing import Any

import pytest
from checkout import Checkout, ran, repro
from test_flow_plan import SEGMENTED, rules

FILES = ("results/table.csv", "results/metrics.json", "dvc.lock")


def shown(checkout: Checkout) -> Any:
    """Return the metrics that DVC shows."""
    said = json.loads(checkout.call("dvc", "metrics", "show", "--json").stdout)
    return said[""]["data"]["results/metrics.json"]["data"]


def written(checkout: Checkout) -> Any:
    """Return the metrics in the file."""
    return json.loads((checkout.folder / "results/metrics.json").read_text())


@pytest.fixture
def clone(recorded: Checkout, tmp_path: Path) -> Checkout:
    """Return a fresh clone with its data pulled."""
    folder = tmp_path / "clone"
    recorded.call("git", "clone", "--quiet", str(recorded.folder), str(folder))
    checkout = Checkout(folder)
    checkout.call("dvc", "pull", "--quiet")
    return checkout


def test_dvc_shows_the_metrics_of_the_table(recorded: Checkout) -> None:
    assert shown(recorded) == written(recorded)
    assert 0 <= written(recorded)["shapes"]["cam"]["common"]["seed"]["miou"] <= 1


def test_git_tracks_no_artifact(recorded: Checkout) -> None:
    tracked = recorded.call("git", "ls-files").stdout.split()
    assert set(FILES) <= set(tracked)
    outside = ("work/", ".snakemake/metadata", ".snakemake/log", "logs/", "benchmarks/")
    assert not [name for name in tracked if name.startswith(outside)]


def test_nothing_runs_in_a_fresh_clone(clone: Checkout) -> None:
    assert clone.dry({}) == [set()]


@pytest.mark.slow
def test_a_fresh_clone_runs_the_last_training_again_when_it_changed(clone: Checkout) -> None:
    faster = {"segmenter": {"train": {"lr": 0.02}}}
    before = written(clone)
    clone.set({"overrides": {"mine": {"method": "supervised", "set": faster}}})
    everywhere, planned = clone.dry(faster, {})
    assert rules(everywhere) == rules(planned) == SEGMENTED
    assert repro(clone) == {job.split()[0] for job in planned}
    assert shown(clone) == written(clone)
    assert written(clone)["shapes"]["cam"] == before["shapes"]["cam"]
    path = clone.folder / "work/shapes/supervised/common/s0/segmenter.json"
    assert json.loads(path.read_text())["params"]["train"]["lr"] == 0.02


@pytest.mark.slow
def test_a_changed_threshold_runs_only_what_depends_on_it(clone: Checkout) -> None:
    clone.set({"evaluation": {"seed_threshold": 0.05}})
    [planned] = clone.dry({})
    assert rules(planned) == {"evaluate seed", "results", "all"}
    assert repro(clone) == {"evaluate", "results", "all"}
    status = json.loads(clone.call("dvc", "status", "--json").stdout)
    assert status == {}


@pytest.mark.slow
def test_an_experiment_runs_what_depends_on_it_and_is_compared(clone: Checkout) -> None:
    before = written(clone)["shapes"]["cam"]["common"]["seed"]["miou"]
    done = clone.call("dvc", "exp", "run", "--set-param", "evaluation.seed_threshold=0.05")
    assert ran(done.stdout + done.stderr) == {"evaluate", "results", "all"}
    said = json.loads(clone.call("dvc", "metrics", "diff", "--json").stdout)
    changed = said["results/metrics.json"]["shapes.cam.common.seed.miou"]
    assert changed["old"] == before
    assert changed["new"] == written(clone)["shapes"]["cam"]["common"]["seed"]["miou"]
    assert "seed_threshold" in clone.call("dvc", "params", "diff", "--json").stdout
    plots = json.loads(clone.call("dvc", "plots", "diff", "--json").stdout)
    assert {"training loss", "threshold against mIoU", "IoU per class"} <= set(plots["data"])
