"""Version, changelog, citation, hooks and CI agree with each other and with the package."""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

import wsss
from wsss.settings import Params

ROOT = Path(__file__).parent.parent
PAPERS = {"PCSformer", "CRT", "CPDGL", "SemFormer", "PCSS"}


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def test_the_version_is_written_in_one_place() -> None:
    project = tomllib.loads(text("pyproject.toml"))
    assert project["project"]["dynamic"] == ["version"]
    assert "version" not in project["project"]
    assert project["tool"]["hatch"]["version"]["path"] == "wsss/__init__.py"


def test_changelog_and_citation_are_of_this_version() -> None:
    sections = re.findall(
        r"^## \[([\d.]+)\] - \d{4}-\d\d-\d\d$", text("CHANGELOG.md"), re.MULTILINE
    )
    assert sections[0] == wsss.__version__
    assert yaml.safe_load(text("CITATION.cff"))["version"] == wsss.__version__


def test_the_citation_names_the_five_papers_and_their_code() -> None:
    references = yaml.safe_load(text("CITATION.cff"))["references"]
    assert {reference["abbreviation"] for reference in references} == PAPERS
    assert all(reference["authors"] for reference in references)
    assert all(reference["repository-code"].startswith("https://") for reference in references)


def test_the_hooks_are_the_linters_of_make_lint() -> None:
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", text("Makefile"), re.MULTILINE)
    assert recipe
    linters = re.findall(r"\$\(RUN\) (ruff \w+|snakemake --lint|\w+)", recipe[1])
    [local] = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    entries = [hook["entry"] for hook in local["hooks"]]
    assert len(linters) == len(entries)
    assert all(
        entry.startswith(f".venv/bin/{name}") for entry, name in zip(entries, linters, strict=True)
    )


def test_ci_lints_and_calls_the_one_script_with_few_rights() -> None:
    workflow: dict[Any, Any] = yaml.safe_load(text(".github/workflows/ci.yml"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert {"make lint", ".ci/run"} <= {step.get("run") for step in steps}
    assert workflow["permissions"] == {"contents": "read"}
    actions = [step["uses"] for step in steps if "uses" in step]
    assert actions
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in actions)


def test_the_package_carries_its_types() -> None:
    assert (Path(wsss.__file__).parent / "py.typed").is_file()


def test_issue_forms_have_what_a_forge_asks_for() -> None:
    forms = [
        path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"
    ]
    assert {form.stem for form in forms} == {"bug", "method"}
    for form in forms:
        content = yaml.safe_load(form.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= set(content)
        questions = [part for part in content["body"] if part["type"] != "markdown"]
        assert len({question["id"] for question in questions}) == len(questions)


def test_the_workflow_catalog_is_told_what_the_workflow_has() -> None:
    usage = yaml.safe_load(text(".snakemake-workflow-catalog.yml"))["usage"]
    deployment = usage["software-stack-deployment"]
    rules = [path.read_text(encoding="utf-8") for path in (ROOT / "workflow/rules").glob("*.smk")]
    assert deployment["conda"] == any("conda:" in rule for rule in rules)
    assert deployment["apptainer"] == ("container:" in text("Snakefile"))
    assert deployment["report"] == any("report(" in rule for rule in rules)
    assert (ROOT / "workflow/report").is_dir()


def test_the_configuration_page_names_keys_that_exist() -> None:
    rows = [line.split("|")[1] for line in text("config/README.md").splitlines() if "|" in line]
    keys = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert len(keys) > 10
    assert keys <= set(Params.model_fields)
