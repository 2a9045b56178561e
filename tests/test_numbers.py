"""The tables of README and docs/results.md quote docs/results/, whose provenance names their runs."""

import csv
import json
import re
from pathlib import Path

import pytest

from wsss.report.tables.rows import stage_title
from wsss.runs.run import stage_kind

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs/results"
QUOTED = {
    "demo": [("README.md", "## Two commands"), ("docs/results.md", "## The demo")],
}
SUMMARISED = {"stamps": 7, "methods": 15}  # with a line for at least so many rows
STUDIES = [name for name in (*QUOTED, *SUMMARISED) if (FOLDER / name).is_dir()]


def quoted(page: str, heading: str) -> list[dict[str, str]]:
    """Return the first table below a heading, a dictionary for each row."""
    text = (ROOT / page).read_text(encoding="utf-8")
    below = text[text.index(f"\n{heading}\n") :]
    lines = re.search(r"(?:^\|.*\|\n)+", below, re.MULTILINE)
    assert lines
    heads, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines[0].splitlines()
    ]
    return [dict(zip(heads, row, strict=True)) for row in rows]


def computed(study: str) -> list[dict[str, str]]:
    with (FOLDER / study / "table.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_demo_is_there() -> None:
    assert "demo" in STUDIES


@pytest.mark.parametrize("study", sorted(QUOTED))
def test_pages_quote_what_was_computed(study: str) -> None:
    expected = [
        (row["title"], stage_title(row["stage"]), f"{100 * float(row['miou']):.1f}")
        for row in computed(study)
    ]
    for page, heading in QUOTED[study]:
        rows = quoted(page, heading)
        assert [(row["method"], row["stage"], row["mIoU %"]) for row in rows] == expected


@pytest.mark.parametrize(("study", "least"), SUMMARISED.items())
def test_the_page_quotes_the_summary(study: str, least: int) -> None:
    summary = (FOLDER / study / "summary.md").read_text(encoding="utf-8")
    table = "".join(re.findall(r"^\|.*\|\n", summary, re.MULTILINE))
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    assert table.count("\n") > least
    assert table in page
    lines = table.splitlines()
    for row in computed(study):
        if row["stage"] == stage_kind(row["stage"]):  # else of a network before the last one
            number = f" {100 * float(row['miou']):.1f} "
            assert any(line.startswith(f"| {row['title']} ") and number in line for line in lines)


def test_the_page_on_frozen_networks_quotes_all_methods() -> None:
    scores = {
        (
            row["title"],
            row["protocol"],
            stage_title(row["stage"]),
        ): f"{100 * float(row['miou']):.1f}"
        for row in computed("methods")
    }
    rows = quoted("docs/foundation.md", "## Numbers at toy size")
    assert len(rows) == 8
    for row in rows:
        name = (row["method"], row["protocol"])
        for stage in ("seed", "own decoder", "pseudo label", "segmentation"):
            assert row[stage] == scores.get((*name, stage), "")


@pytest.mark.parametrize("study", STUDIES)
def test_every_number_has_its_provenance(study: str) -> None:
    content = json.loads((FOLDER / study / "provenance.json").read_text(encoding="utf-8"))
    for row in computed(study):
        run = f"{row['dataset']}/{row['method']}/{row['protocol']}/s0"
        assert f"eval/{row['stage']}" in content["runs"][run]
        for group in content["made_with"][run]:
            assert re.fullmatch(r"[0-9a-f]{40}", group["commit"])
            assert group["dirty"] is False
