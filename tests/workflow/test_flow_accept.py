"""Snakemake and the table agree after a change of code was accepted, or touched and accepted."""

import pytest
from checkout import RUN, Checkout, ran
from test_flow_plan import END, WALKED, rules

NAME = RUN.removeprefix("work/")
REASON = "renames a variable"


def edited(checkout: Checkout) -> None:
    """Change the code of the walk, so that the walk and what follows would run again."""
    old = "\nimport numpy as np\n"
    checkout.edit("wsss/stages/walk.py", old, f"{old}\nEDITED = 1\n")
    [jobs] = checkout.dry({})
    assert rules(jobs) == WALKED


@pytest.mark.slow
def test_an_accepted_change_remakes_the_tables_alone_and_later_changes_run_once(
    mine: Checkout,
) -> None:
    edited(mine)
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


@pytest.mark.slow
def test_a_touched_change_can_be_accepted(mine: Checkout) -> None:
    edited(mine)
    mine.snakemake("--touch")
    refused = mine.call("wsss", "table", status=2).stderr
    assert "code was" in refused
    assert "wsss accept RUN --because" in refused
    mine.call("wsss", "accept", NAME, "--because", REASON)
    mine.call("wsss", "adopt")
    mine.call("wsss", "table")
    assert mine.dry({}) == [set()]
