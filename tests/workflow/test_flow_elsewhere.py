"""Studies in folders of their own: --directory, -s from elsewhere, and the Snakefile as a module."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from checkout import Checkout

from wsss.settings.resolve import read_yaml

# A workflow whose only job writes where Python would look for the code of the checkout.
PATHS = """
from wsss.runs.checkout import Checkout

shell.prefix(Checkout(workflow).shell_functions("workflow/tell.sh"))

rule paths:
    output: "paths.txt"
    shell: "echo ${{PYTHONPATH-none}} > {output}"
"""
MODULE = """
module wsss:
    snakefile: "{snakefile}"
    {config}

use rule * from wsss{names}

rule paper:
    default_target: True
    input: "results/table.csv"
    output: "paper.txt"
    shell: "wc -l {{input}} > {{output}}"
"""


@dataclass(frozen=True)
class Study(Checkout):
    """A folder outside the checkout whose code it uses."""

    checkout: Checkout

    def environment(self) -> dict[str, str]:
        """Return the environment of the checkout."""
        return self.checkout.environment()

    def planned(self, *arguments: str) -> dict[str, int]:
        """Return the number of jobs of each rule that a dry run of Snakemake plans."""
        done = self.call("snakemake", "--dry-run", "--quiet", "reason", "--cores", "2", *arguments)
        said = done.stdout + done.stderr
        jobs = re.findall(r"^(\w+) +(\d+)$", said.partition("Job stats:")[2], re.MULTILINE)
        return {rule: int(count) for rule, count in jobs}

    def write(self, name: str, content: dict[str, object]) -> None:
        """Write settings to a YAML file of the study."""
        (self.folder / name).write_text(yaml.safe_dump(content))

    def module(self, config: str = "", names: str = "") -> None:
        """Write a workflow that takes the checkout's Snakefile as a module."""
        snakefile = self.checkout.folder / "Snakefile"
        text = MODULE.format(snakefile=snakefile, config=config, names=names)
        (self.folder / "Snakefile").write_text(text)


@pytest.fixture
def study(fresh: Checkout, tmp_path: Path) -> Study:
    """Return an empty folder beside a checkout."""
    folder = tmp_path / "study one"
    folder.mkdir()
    return Study(folder, fresh)


def test_a_study_in_another_folder_has_the_settings_of_the_checkout(study: Study) -> None:
    plan = Study(study.checkout.folder, study.checkout).planned("--directory", str(study.folder))
    assert (plan["draw"], plan["train"], plan["segmenter"], plan["results"]) == (1, 1, 2, 1)


@pytest.mark.slow
def test_params_yaml_of_the_working_folder_wins(study: Study) -> None:
    study.write("params.yaml", {"methods": ["cam"], "seeds": [0, 1, 2]})
    plan = study.planned("--snakefile", str(study.checkout.folder / "Snakefile"))
    assert (plan["train"], plan["segmenter"]) == (3, 3)


@pytest.mark.slow
def test_a_preset_is_laid_over_the_settings_from_elsewhere(study: Study) -> None:
    study.write("mine.yaml", {"seeds": [4, 5]})
    snakefile = str(study.checkout.folder / "Snakefile")
    plan = study.planned("--snakefile", snakefile, "--configfile", "mine.yaml")
    assert (plan["train"], plan["segmenter"]) == (2, 4)


@pytest.mark.slow
def test_a_module_takes_its_settings_from_the_workflow_around_it(study: Study) -> None:
    study.module("config: {'seeds': [0, 1], 'methods': ['cam']}", " as wsss_*")
    plan = study.planned("--config", "unknown=key")
    assert (plan["wsss_train"], plan["wsss_results"], plan["paper"]) == (2, 1, 1)


@pytest.mark.slow
def test_a_module_without_settings_has_those_of_the_checkout(study: Study) -> None:
    study.module()
    plan = study.planned("--config", "unknown=key")
    assert (plan["train"], plan["segmenter"], plan["paper"]) == (1, 2, 1)


def test_a_wrong_setting_of_a_module_is_named(study: Study) -> None:
    study.module("config: {'sedes': [0]}")
    done = study.call("snakemake", "--dry-run", status=1)
    assert "unknown key sedes; did you mean 'seeds'?" in done.stdout + done.stderr


def test_commands_of_a_study_read_the_settings_of_the_checkout(study: Study) -> None:
    shown = json.loads(study.call("wsss", "params").stdout)
    assert shown["data"]["shapes"]["train"] == 16
    study.write("params.yaml", {"data": {"shapes": {"train": 17}}})
    shown = json.loads(study.call("wsss", "params").stdout)
    assert shown["data"]["shapes"]["train"] == 17


@pytest.mark.slow
def test_jobs_of_a_study_find_the_code_of_the_checkout_in_an_environment_without_it(
    fresh: Checkout, tmp_path: Path
) -> None:
    (tmp_path / "study").mkdir()
    small = Checkout(tmp_path / "small checkout")
    for name in ("wsss", "workflow"):
        shutil.copytree(fresh.folder / name, small.folder / name)
    (small.folder / "Snakefile").write_text(PATHS)
    inherited = small.environment()["PYTHONPATH"]
    for folder, expected in (("../study", f"{small.folder}:{inherited}"), (".", inherited)):
        small.call("snakemake", "--cores", "1", "--directory", folder)
        assert (small.folder / folder / "paths.txt").read_text().strip() == expected


@pytest.mark.slow
def test_a_study_runs_in_its_own_folder_and_leaves_the_checkout_alone(study: Study) -> None:
    checkout = study.checkout
    before = sorted(checkout.folder.rglob("*.json"))
    smallest = {**read_yaml(checkout.folder / "params.yaml"), "methods": ["supervised"]}
    study.write("params.yaml", smallest)
    said = checkout.snakemake("--directory", str(study.folder))
    assert (study.folder / "results/table.md").read_text() in said
    assert (
        "segmenter done"
        in (study.folder / "logs/shapes/supervised/common/s0/segmenter.log").read_text()
    )
    assert sorted(checkout.folder.rglob("*.json")) == before
    assert study.planned("--snakefile", str(checkout.folder / "Snakefile")) == {}
    assert "true masks" in study.call("wsss", "table").stdout
