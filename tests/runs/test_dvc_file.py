"""`wsss dvc`: a stage for each dataset and run of a plan, and a check that the file is the present one."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from answer import wsss

from wsss.runs.run import planned_runs
from wsss.settings.resolve import load_params

ROOT = Path(__file__).parents[2]
EMBEDDED = ("--params", "params.yaml", "--params", "params/embedded.yaml")


@pytest.fixture
def folder(work: Path) -> Path:
    """Return a folder with parameter files."""
    shutil.copy(ROOT / "params.yaml", work)
    shutil.copytree(ROOT / "params", work / "params")
    return work


def stages() -> dict[str, Any]:
    """Return the stages in dvc.yaml."""
    return dict(yaml.safe_load(Path("dvc.yaml").read_text())["stages"])


def test_every_run_of_a_preset_has_a_stage_and_no_file_has_two(folder: Path) -> None:
    wsss("dvc", *EMBEDDED).accepts()
    runs = list(planned_runs(load_params([Path("params.yaml"), Path("params/embedded.yaml")])))
    assert len(runs) > 10
    assert {str(run).replace("/", "-") for run in runs} < set(stages())
    files = [path for stage in stages().values() for out in stage["outs"] for path in out]
    assert len(files) == len(set(files))
    pipeline = stages()["pipeline"]
    assert pipeline["cmd"][1] == "snakemake --cores all --configfile params/embedded.yaml"
    assert pipeline["params"] == [{"params.yaml": None}, {"params/embedded.yaml": None}]
    options = " ".join(EMBEDDED)
    assert stages()["data-shapes"]["cmd"] == f"wsss verify data shapes {options}"


@pytest.mark.parametrize("methods", ["[cam-beta-4, cam-beta-6, cam]", "[cam-beta-4, cam-beta-6]"])
def test_a_file_that_variants_share_is_listed_once(folder: Path, methods: str) -> None:
    grid = "{method: cam, grid: {walk.beta: [4, 6]}}"
    Path("mine.yaml").write_text(f"methods: {methods}\nvariants: {{cam-beta: {grid}}}\n")
    wsss("dvc", "--params", "params.yaml", "--params", "mine.yaml").accepts()
    listed = {
        name: {path for out in stage["outs"] for path in out} for name, stage in stages().items()
    }
    owner = "shapes-cam-common-s0" if "cam]" in methods else "shapes-cam-beta-4-common-s0"
    for file in ("classifier.safetensors", "classifier.csv", "cam.zip", "affinity.json"):
        path = f"work/shapes/cam/common/s0/{file}"
        assert [name for name, paths in listed.items() if path in paths] == [owner]
    for value in (4, 6):
        run = f"cam-beta-{value}/common/s0"
        assert f"work/shapes/{run}/walk.zip" in listed[f"shapes-{run.replace('/', '-')}"]
    artifacts = yaml.safe_load(Path("dvc.yaml").read_text())["artifacts"]
    assert "shapes-cam-beta-4-common-s0-pseudo" in artifacts
    assert "shapes-cam-beta-4-common-s0-classifier" not in artifacts


def test_a_preset_in_params_yaml_names_its_own_folder_of_results(folder: Path) -> None:
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("preset: null", "preset: voc12"))
    wsss("dvc").accepts()
    pipeline = stages()["pipeline"]
    assert pipeline["cmd"] == ["wsss dvc --check", "snakemake --cores all"]
    assert pipeline["params"] == [{"params/voc12.yaml": None}, {"params.yaml": None}]
    assert list(pipeline["metrics"][0]) == ["results/voc12/metrics.json"]
    assert "voc12-cam-published-s2" in stages()
    plots = yaml.safe_load(Path("dvc.yaml").read_text())["plots"]
    assert list(plots[0]["training loss"]["y"]) == ["results/voc12/loss.csv"]


def test_initial_weights_are_a_version_of_their_own(folder: Path) -> None:
    wsss("dvc", "--params", "params.yaml", "--params", "params/voc12.yaml").accepts()
    weights = {name: stage for name, stage in stages().items() if name.startswith("weights-")}
    assert weights
    for stage in weights.values():
        name = stage["cmd"].split()[-1]
        assert stage["cmd"] == f"wsss verify weights {name}"
        assert list(stage["outs"][0]) == [f"work/pretrained/{name}.safetensors"]


def test_another_plan_needs_another_file(folder: Path) -> None:
    wsss("dvc", "--check").refuses("Run `wsss dvc`, then the same again.")
    wsss("dvc").accepts()
    wsss("dvc", "--check").accepts()
    wsss("dvc", "--check", *EMBEDDED).refuses(f"Run `wsss dvc {' '.join(EMBEDDED)}`")
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("methods: [cam,", "methods: [toco,"))
    wsss("dvc", "--check").refuses("dvc.yaml does not list what params.yaml makes")
    Path("dvc.yaml").write_text("stages: {")
    wsss("dvc", "--check").refuses("dvc.yaml does not list what params.yaml makes")


def test_files_of_a_stage_that_an_experiment_leaves_out_stay_listed(folder: Path) -> None:
    wsss("dvc").accepts()
    fixed = "overrides: {fixed: {method: cam, set: {pseudo: {threshold: 0.4}}}}"
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("overrides: {}", fixed))
    wsss("dvc", "--check").refuses("dvc.yaml does not list")
    left_out = Path("work/shapes/cam/common/s0")
    left_out.mkdir(parents=True)
    for name in ("thresholds-walk.json", "calibrate-walk.json"):
        (left_out / name).write_text("{}")
    wsss("dvc", "--check").accepts()


def test_dvc_reads_params_yaml_first(folder: Path) -> None:
    wsss("dvc", "--params", "params/voc12.yaml").refuses("Name it before the others")
