"""DVC records what Snakemake makes, and a fresh clone behaves like the place where it was made."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkout import ROOT, RUN, Checkout, ran, repro
from test_flow_plan import SEGMENTED, rules

pytestmark = pytest.mark.slow  # DVC calls Snakemake and verifies every run

FILES = ("results/table.csv", "results/metrics.json", "dvc.lock")


def shown(checkout: Checkout) -> Any:
    """Return the metrics that DVC shows."""
    said = json.loads(checkout.call("dvc", "metrics", "show", "--json").stdout)
    return said[""]["data"]["results/metrics.json"]["data"]


def written(checkout: Checkout) -> Any:
    """Return the metrics in the file."""
    return json.loads((checkout.folder / "results/metrics.json").read_text())


@pytest.fixture(scope="module")
def adopted(recorded: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a fresh clone with its data pulled and adopted; do not write to it."""
    checkout = cloned(recorded, tmp_path_factory.mktemp("adopted") / "clone")
    checkout.call("dvc", "pull", "--quiet")
    checkout.call("wsss", "adopt")
    return checkout


@pytest.fixture
def clone(adopted: Checkout, tmp_path: Path) -> Checkout:
    """Return a copy of the clone that a test may change."""
    return adopted.copy(tmp_path / "clone")


def cloned(recorded: Checkout, folder: Path) -> Checkout:
    """Return a clone without data."""
    recorded.call("git", "clone", "--quiet", str(recorded.folder), str(folder))
    return Checkout(folder)


def recorded_files(checkout: Checkout) -> dict[str, str]:
    """Return the checksum of every output in dvc.lock."""
    lock = yaml.safe_load((checkout.folder / "dvc.lock").read_text())
    return {
        out["path"]: out["md5"]
        for stage in lock["stages"].values()
        for out in stage.get("outs", [])
    }


def test_dvc_shows_the_metrics_of_the_table(recorded: Checkout) -> None:
    assert shown(recorded) == written(recorded)
    assert 0 <= written(recorded)["shapes"]["cam"]["common"]["seed"]["miou"] <= 1


def test_the_page_on_versions_shows_the_stages(recorded: Checkout) -> None:
    page = (ROOT / "docs/versions.md").read_text(encoding="utf-8")
    drawn = recorded.call("dvc", "dag", "--mermaid").stdout.strip()
    assert f"```mermaid\n{drawn}\n```" in page


def test_git_tracks_no_artifact(recorded: Checkout) -> None:
    tracked = recorded.call("git", "ls-files").stdout.split()
    assert set(FILES) <= set(tracked)
    outside = ("work/", ".snakemake/", "logs/", "benchmarks/", "data/")
    assert not [name for name in tracked if name.startswith(outside)]


def test_nothing_runs_in_a_fresh_clone(adopted: Checkout) -> None:
    assert adopted.dry({}) == [set()]
    assert adopted.call("git", "status", "--porcelain").stdout == ""


def test_dvc_records_every_artifact_and_no_foreign_file(mine: Checkout, recorded: Checkout) -> None:
    work = recorded.folder / "work"
    present = {p.relative_to(recorded.folder).as_posix() for p in work.rglob("*") if p.is_file()}
    listed = recorded_files(recorded)
    assert {path for path in listed if path.startswith("work/")} == present
    for name in ("work/other/cam.zip", f"{RUN}/other.zip"):
        (mine.folder / name).parent.mkdir(exist_ok=True)
        (mine.folder / name).write_text("foreign")
    mine.call("git", "init", "--quiet")
    assert repro(mine) == set()
    assert recorded_files(mine) == listed


def test_weights_and_pseudo_labels_can_be_cited(recorded: Checkout) -> None:
    artifacts = yaml.safe_load((recorded.folder / "dvc.yaml").read_text())["artifacts"]
    paths = {entry["path"] for entry in artifacts.values()}
    assert paths <= set(recorded_files(recorded))
    assert {f"{RUN}/classifier.safetensors", f"{RUN}/pseudo.zip"} <= paths


def test_one_archive_is_fetched_and_gone_on_from(recorded: Checkout, tmp_path: Path) -> None:
    labels = f"{RUN}/pseudo.zip"
    (tmp_path / "elsewhere").mkdir()
    recorded.call("dvc", "get", ".", labels, "--out", str(tmp_path / "elsewhere/pseudo.zip"))
    expected = (recorded.folder / labels).read_bytes()
    assert (tmp_path / "elsewhere/pseudo.zip").read_bytes() == expected
    part = cloned(recorded, tmp_path / "clone")
    part.call("dvc", "pull", "data-shapes")
    part.call("dvc", "pull", "work/shapes/data.json", labels, f"{RUN}/pseudo.json")
    [planned] = part.dry({}, targets=[f"{RUN}/segmenter.safetensors"])
    assert planned == {"segmenter shapes/cam/common/0"}


def test_adopt_refuses_until_every_file_verifies(clone: Checkout) -> None:
    shutil.rmtree(clone.folder / ".snakemake")
    with (clone.folder / RUN / "pseudo.zip").open("ab") as archive:
        archive.write(b"more")
    clone.set({"evaluation": {"seed_threshold": 0.05}})
    done = clone.call("wsss", "adopt", status=2)
    assert done.stdout.splitlines() == [
        "shapes/cam/common/s0 eval/seed: threshold was calibrated, is 0.05",
        f"{RUN}/pseudo.zip is not the file that {RUN}/pseudo.json describes",
    ]
    assert "error: 2 mismatches." in done.stderr
    assert not (clone.folder / ".snakemake/metadata").exists()


def test_adopted_files_are_made_again_as_the_ones_made_here(
    clone: Checkout, made: Checkout
) -> None:
    change = {"segmenter": {"train": {"lr": 0.02}}}
    [jobs] = clone.dry(change)
    assert [jobs] == made.dry(change)
    assert rules(jobs) == SEGMENTED
    shutil.rmtree(clone.folder / ".snakemake")
    clone.call("wsss", "adopt", "--persistence-backend", "db")
    assert "Nothing to be done" in clone.snakemake("--persistence-backend", "db", "--dry-run")


def test_results_of_other_parameters_are_not_bound_to_the_present_ones(clone: Checkout) -> None:
    clone.snakemake("--config", "evaluation={seed_threshold: 0.05}")
    done = clone.call("wsss", "verify", "shapes/cam/common/s0", status=2)
    line = "shapes/cam/common/s0 eval/seed: threshold was 0.05, is calibrated"
    assert done.stdout.splitlines() == [line]
    clone.call("dvc", "commit", "--force")
    assert clone.call("wsss", "adopt", status=2).stdout.splitlines() == [line]
    assert repro(clone) == {"evaluate", "results", "all"}
    changed = clone.call("git", "status", "--porcelain").stdout.splitlines()
    assert changed == [" M results/provenance.json"], "it names the commit of the evaluation"


def test_equal_runs_give_an_equal_lock(clone: Checkout) -> None:
    before = (clone.folder / "dvc.lock").read_bytes()
    shutil.rmtree(clone.folder / "work/shapes/supervised")
    made_again = ran(clone.snakemake())  # each job on one thread, as the first time
    assert {"segmenter", "masks_shard", "evaluate", "results"} <= made_again
    said = clone.call("dvc", "repro")
    assert ran(said.stdout + said.stderr) == set()
    assert "Updating lock file" not in said.stdout
    assert (clone.folder / "dvc.lock").read_bytes() == before


def test_an_experiment_changes_one_runs_labels_and_what_follows(clone: Checkout) -> None:
    before = recorded_files(clone)
    clone.call("dvc", "exp", "run", "--set-param", "pseudo.threshold=0.4")
    after = recorded_files(clone)
    changed = {path for path, checksum in after.items() if checksum != before[path]}
    stages = ("pseudo", "segmenter", "masks", "eval/walk", "eval/pseudo", "eval/segmentation")
    assert f"{RUN}/pseudo.zip" in changed
    runs = {path for path in changed if path.startswith("work/")}
    assert all(path.startswith(tuple(f"{RUN}/{stage}." for stage in stages)) for path in runs)


def test_a_plan_with_other_files_asks_for_a_new_dvc_yaml(clone: Checkout) -> None:
    arguments = ("dvc", "exp", "run", "--set-param", "methods=[cam]")
    done = clone.call(*arguments, status=255)
    assert "dvc.yaml does not list what params.yaml makes. Run `wsss dvc`" in done.stderr
    clone.call("wsss", "dvc")
    assert repro(clone) == {"results", "all"}
    listed = clone.call("dvc", "stage", "list", "--name-only").stdout.split()
    assert listed == ["pipeline", "data-shapes", "shapes-cam-common-s0"]


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


def test_an_experiment_runs_what_depends_on_it_and_is_compared(clone: Checkout) -> None:
    before = written(clone)["shapes"]["cam"]["common"]["seed"]["miou"]
    [planned] = clone.dry({"evaluation": {"seed_threshold": 0.05}})
    assert rules(planned) == {"evaluate seed", "results", "all"}
    done = clone.call("dvc", "exp", "run", "--set-param", "evaluation.seed_threshold=0.05")
    assert ran(done.stdout + done.stderr) == {"evaluate", "results", "all"}
    status = json.loads(clone.call("dvc", "status", "--json").stdout)
    assert status == {"pipeline": ["always changed"]}
    said = json.loads(clone.call("dvc", "metrics", "diff", "--json").stdout)
    changed = said["results/metrics.json"]["shapes.cam.common.seed.miou"]
    assert changed["old"] == before
    assert changed["new"] == written(clone)["shapes"]["cam"]["common"]["seed"]["miou"]
    assert "seed_threshold" in clone.call("dvc", "params", "diff", "--json").stdout
    plots = json.loads(clone.call("dvc", "plots", "diff", "--json").stdout)
    assert {"training loss", "threshold against mIoU", "IoU per class"} <= set(plots["data"])
