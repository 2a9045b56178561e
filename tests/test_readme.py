"""What the README tells people to type exists."""

import re
from pathlib import Path

import typer
import yaml

from wsss.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CLUSTER = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")
VERSIONS = (ROOT / "docs/versions.md").read_text(encoding="utf-8")
BLOCKS = "\n".join(re.findall(r"```\w*\n(.*?)```", README, re.DOTALL)) + "\n".join(
    re.findall(r"`([^`\n]+)`", README)
)


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    used = set(re.findall(r"^make (\w+)", BLOCKS, re.MULTILINE))
    assert {"demo", "test"} <= used
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in used)


def test_subcommands_exist() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    used = set(re.findall(r"\bwsss ([a-z]+)\b", BLOCKS))
    assert {"cam", "data", "evaluate", "params", "predict"} <= used <= set(commands)


def test_the_page_on_clusters_names_what_exists() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    blocks = "\n".join(re.findall(r"```\w*\n(.*?)```", CLUSTER, re.DOTALL))
    assert {"resume"} <= set(re.findall(r"\bwsss ([a-z]+)\b", blocks)) <= set(commands)
    named = re.findall(r"(?:envs|params|profiles|tests|wsss)/[\w/.-]+\w", CLUSTER)
    assert {"envs/wsss.def", "tests/slurm/start-slurm"} <= set(named)
    assert [n for n in named if not (ROOT / n).exists() and n != "envs/wsss.sif"] == []


def test_the_page_on_versions_names_what_dvc_tracks() -> None:
    tracked = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["pipeline"]
    outputs = {next(iter(output)) for output in (*tracked["outs"], *tracked["metrics"])}
    results = {name for name in outputs if name.startswith("results/")}
    named = set(re.findall(r"`([\w./*]+)`", VERSIONS))
    assert results
    assert {name for name in results if not name.endswith(".csv")} <= named
    assert {"work/", "results/*.csv", "data/"} <= named


def test_linked_and_named_files_exist() -> None:
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    presets = re.findall(r"params/\w+\.yaml", README)
    assert linked
    assert presets
    assert [name for name in {*linked, *presets} if not (ROOT / name).exists()] == []


def test_every_preset_named_on_a_command_line_has_its_comment() -> None:
    for preset in (ROOT / "params").glob("*.yaml"):
        assert preset.read_text(encoding="utf-8").startswith("# "), (
            f"{preset} does not say what it is for"
        )
