"""Snakemake and the table agree after a change of code was accepted, or touched and accepted."""

import pytest
from checkout import RUN, Checkout, ran
from test_flow_plan import END, WALKED, rules

NAME = RUN.removeprefix("work/")
REASON = "renames a variable"


@pytest.mark.slow
def test_an_accepted_change_remakes_the_tables_alone_and_later_changes_run_once(
    mine: Checkout,
) -> None:
    old = "\nimport numpy as np\n"
    mine.edit("wsss/stages/walk.py", old, f"{old}\nEDITED = 1\n")
    [jobs] = mine.dry({})
    assert rules(jobs) == WALKED
    touched = mine.copy(mine.folder.parent / "touched")
    mine.call("wsss", "accept", NAME, "walk", "--because", REASON)
    [jobs] = mine.dry({})
    assert rules(jobs) == END
    assert "results" in (jobs_run := ran(mine.snakemake()))
    assert jobs_run <= END
    assert mine.dry({}) == [set()]
    table = (mine.folder / "results/table.md").read_text()
    assert f"‡ Of earlier code, accepted because: {REASON}." in table
    mine.set({"walk": {"log2_steps": 2}})
    mine.snakemake(f"{RUN}/walk.json")
    assert "accepted" not in (mine.folder / RUN / "walk.json").read_text()
    [jobs] = mine.dry({})
    assert "walk_shard" not in rules(jobs)
    check_touched(touched)


def check_touched(mine: Checkout) -> None:
    """Check that a change after which Snakemake was told to touch all files can be accepted."""
    mine.snakemake("--touch")
    refused = mine.call("wsss", "table", status=2).stderr
    assert "code was" in refused
    assert "wsss accept RUN --because" in refused
    mine.call("wsss", "accept", NAME, "--because", REASON)
    mine.call("wsss", "adopt")
    mine.call("wsss", "table")
    assert mine.dry({}) == [set()]
