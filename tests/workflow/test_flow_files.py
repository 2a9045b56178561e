"""The files around the workflow agree with each other, and with what the tools expect."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkout import ROOT, Checkout

from wsss.runs.dvc_file import dvc_text
from wsss.settings.render import params_text, schema_text
from wsss.settings.resolve import load_params

SCRIPTS = (
    ".ci/run",
    "envs/wsss.post-deploy.sh",
    "workflow/tell.sh",
    "tests/slurm/start-slurm",
    "tests/slurm/stop-slurm",
)
PRESETS = sorted((ROOT / "params").glob("*.yaml"))


def parsed(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


@pytest.mark.slow
def test_the_workflow_passes_the_linter_of_snakemake(fresh: Checkout) -> None:
    done = fresh.call("snakemake", "--lint", status=None)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_are_formatted_and_scripts_are_clean(fresh: Checkout) -> None:
    formatted = fresh.call("snakefmt", "--check", "Snakefile", "workflow")
    checked = fresh.call("shellcheck", *SCRIPTS)
    assert (formatted.returncode, checked.returncode) == (0, 0)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_every_preset_is_valid_over_the_defaults(preset: Path) -> None:
    assert load_params([ROOT / "params.yaml", preset])


def test_defaults_and_schema_are_those_of_the_models() -> None:
    assert (ROOT / "params.yaml").read_text() == params_text()
    schema = json.loads((ROOT / "workflow/schemas/params.schema.json").read_text())
    assert schema == json.loads(schema_text())


def test_dvc_watches_every_key_of_the_parameters() -> None:
    stage = parsed("dvc.yaml")["stages"]["pipeline"]
    assert stage["params"] == [{"params.yaml": None}]


def test_dvc_records_what_the_parameters_make(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert (ROOT / "dvc.yaml").read_text() == dvc_text([Path("params.yaml")])


def test_git_tracks_no_data_but_its_versions(fresh: Checkout, tmp_path: Path) -> None:
    mine = fresh.copy(tmp_path / "repository")
    for name in ("data/VOCdevkit/photo.jpg", "data/birds.dvc", "work/photo.zip"):
        (mine.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (mine.folder / name).touch()
    mine.call("git", "init", "--quiet")
    mine.call("git", "add", "--all")
    tracked = mine.call("git", "ls-files", "data", "work").stdout.split()
    assert tracked == ["data/birds.dvc"]


def test_dvc_deletes_no_output_before_the_run() -> None:
    stages = parsed("dvc.yaml")["stages"].values()
    outputs = [out for stage in stages for out in (*stage["outs"], *stage.get("metrics", []))]
    assert all(options["persist"] for output in outputs for options in output.values())


def test_the_default_profile_leaves_resources_to_the_other_profiles() -> None:
    default = parsed("profiles/default/profile.yaml")
    assert not {"default-resources", "set-resources", "set-threads"} & set(default)
    assert default["max-checksum-file-size"] == "20GB"
    assert default["apptainer-args"] == "--nv"


@pytest.mark.parametrize("name", ["slurm", "slurm-ci"])
def test_cluster_profiles_name_their_status_command(name: str) -> None:
    profile = parsed(f"profiles/{name}/profile.yaml")
    assert profile["slurm-status-command"] in ("sacct", "squeue")


def test_the_profile_slurm_is_found_from_the_root() -> None:
    assert (ROOT / "slurm").is_symlink()
    assert (ROOT / "slurm/profile.yaml").samefile(ROOT / "profiles/slurm/profile.yaml")


def test_rules_named_in_profiles_exist(fresh: Checkout) -> None:
    rules = set(fresh.call("snakemake", "--list-rules").stdout.split())
    for name in ("slurm", "slurm-ci"):
        profile = parsed(f"profiles/{name}/profile.yaml")
        named = {*profile.get("set-resources", {}), *profile.get("set-threads", {})}
        assert named | set(profile["slurm-array-jobs"].split(",")) <= rules


def asked(plan: str) -> dict[str, dict[str, str]]:
    """Return the resources and threads of the first job of each rule that a dry run prints."""
    first: dict[str, dict[str, str]] = {}
    for block in re.split(r"\n *rule ", plan)[1:]:
        resources = re.search(r"^ +resources: (.*)$", block, re.MULTILINE)
        threads = re.search(r"^ +threads: (\d+)$", block, re.MULTILINE)
        values = dict(
            word.split("=", 1) for word in (resources[1] if resources else "").split(", ")
        )
        first.setdefault(
            block.partition(":")[0], {**values, "threads": threads[1] if threads else "1"}
        )
    return first


@pytest.mark.slow
def test_resources_of_a_cluster_follow_gpus_limits_and_where_rules_run(
    fresh: Checkout, tmp_path: Path
) -> None:
    around = tmp_path / "Snakefile"
    text = 'print("on the head:", *sorted(workflow._localrules))\n'
    around.write_text(f'include: "{fresh.folder / "Snakefile"}"\n{text}')
    limits = ["--default-resources", "slurm_partition=a", "max_runtime=100", "on_head=1"]
    resources = [
        "segmenter:gpu=4",
        "affinity:gpu=4",
        "affinity:nodes=2",
        "evaluate:on_head=1",
        "walk:on_head=0",
    ]
    call = [
        "snakemake",
        "all",
        "-s",
        str(around),
        "--dry-run",
        "--cores",
        "64",
        "--profile",
        "slurm",
    ]
    plan = fresh.call(*call, *limits, "--set-resources", *resources).stdout
    jobs = asked(plan)
    trainings = [jobs[rule] for rule in ("train", "affinity", "segmenter")]
    assert [job["threads"] for job in trainings] == ["4", "8", "16"]
    assert [job["mem_mb"] for job in trainings] == ["2000", "4000", "8000"]
    assert {job["runtime"] for job in trainings} == {"100"}
    assert jobs["pseudo"]["runtime"] == jobs["evaluate"]["runtime"] == "50", "they share a job"
    on_head = "cam convert decode done draw evaluate index instances masks results text weights"
    assert f"on the head: {on_head}\n" in plan


def test_what_the_snakefile_imports_loads_neither_torch_nor_timm() -> None:
    program = (
        "import sys, wsss.runs.flow as w;"
        "flow = w.Flow({}); flow.environment; flow.results_code(None); [r.code('cam') for r in flow.runs if r.spec.networks];"
        "print(*sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'torchvision', 'timm'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
