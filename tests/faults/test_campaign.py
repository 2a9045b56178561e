"""A short campaign of kills: one of each kind of stage, and the head."""

from pathlib import Path

import pytest
from campaign import campaign, plan
from kills import HEAD_KINDS, KINDS, OTHERS, halves


def test_a_campaign_kills_each_kind_before_any_twice() -> None:
    stages, heads = plan(7)
    assert set(stages) == set(KINDS)
    assert heads == ["head"]
    stages, heads = plan(36)
    assert len(stages) + len(heads) == 36
    assert set(stages) == {*KINDS, *OTHERS}
    assert set(heads) == set(HEAD_KINDS)


def test_a_half_written_file_is_found(tmp_path: Path) -> None:
    for name, content in (("before", b"old"), ("after", b"new"), ("found", b"ne")):
        (tmp_path / name / "work").mkdir(parents=True)
        (tmp_path / name / "work/x.zip").write_bytes(content)
    folders = [tmp_path / name for name in ("found", "before", "after")]
    assert list(halves(*folders)) == ["work/x.zip is neither old nor new"]
    assert list(halves(folders[1], *folders[1:])) == []


@pytest.mark.slow
def test_a_short_campaign_is_survived(tmp_path: Path) -> None:
    outcomes = list(campaign(tmp_path, 7, seed=0))
    assert [str(outcome) for outcome in outcomes if outcome.faults] == []
    assert len(outcomes) == 7
