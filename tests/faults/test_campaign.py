"""A short campaign of kills: one of each kind of stage, and the head."""

import random
from pathlib import Path

import pytest
from campaign import by_kind, campaign, plan
from deaths import deaths
from errands import ERRANDS, TEXT
from kills import HEAD_KINDS, Outcome, halves
from run import summary
from studies import LONG, SHORT, Study

from wsss.storage.files import write_text


@pytest.mark.parametrize(("study", "kills"), [(SHORT, 36), (LONG, 42)], ids=["short", "long"])
def test_a_campaign_kills_each_kind_before_any_twice(study: Study, kills: int) -> None:
    stages, heads = plan(study, round(len(study.first) * 1.2))
    assert set(stages) == set(study.first)
    assert set(heads) <= set(HEAD_KINDS)
    stages, heads = plan(study, kills)
    assert len(stages) + len(heads) == kills
    assert set(stages) == {*study.first, *study.others}
    assert set(stages) <= set(study.stages)
    assert set(heads) == set(HEAD_KINDS)


def straight() -> int:
    """Write two files as nothing in the package should."""
    Path("x.txt").write_text("new")
    Path("y.txt").write_text("new")
    return 0


def whole_or_absent() -> int:
    """Write two files as the package does."""
    write_text(Path("x.txt"), "newer")
    write_text(Path("y.txt"), "newer")
    return 0


def test_a_death_between_two_changes_of_files_is_noticed(tmp_path: Path) -> None:
    folder, chance = tmp_path / "folder", random.Random(0)  # noqa: S311  # moments, no secrets
    folder.mkdir()
    (folder / "x.txt").write_text("old")
    lines = [outcome.faults for outcome in deaths(straight, "w", "straight", folder, 99, chance)]
    assert lines == [["x.txt is neither old nor new"], ["y.txt is neither old nor new"]]
    outcomes = list(deaths(whole_or_absent, "w", "whole", folder, 99, chance))
    assert len(outcomes) >= 6
    assert [str(outcome) for outcome in outcomes if outcome.faults] == []


def test_a_training_that_saves_less_often_than_before_dies_at_its_last_change(
    tmp_path: Path,
) -> None:
    folder, calls = tmp_path / "folder", tmp_path / "calls"
    folder.mkdir()
    calls.write_text("")

    def training() -> int:
        calls.write_text(calls.read_text() + "x")
        for step in range(3 if calls.read_text() == "x" else 1):
            write_text(Path("state.txt"), str(step))
        Path("state.txt").unlink()
        write_text(Path("weights.txt"), "trained")
        return 0

    chance = random.Random(0)  # noqa: S311  # moments, no secrets
    [outcome] = deaths(training, "train", "training", folder, 1, chance)
    assert outcome.faults == []
    assert len(calls.read_text()) == 4  # undisturbed, to its end before the moment, dead, again


def test_every_command_of_an_errand_is_counted_as_something() -> None:
    kinds = {errand.kind for errand in [*ERRANDS, *TEXT]} - {""}
    assert {"imports", "exports", "frozen affinities", "frozen CLIP", "text", "predict"} <= kinds


def test_the_summary_says_what_was_tried_by_kind() -> None:
    outcomes = [Outcome("train", "a"), Outcome("train", "b", ["x is missing"]), Outcome("cam", "c")]
    assert summary(by_kind(outcomes), {"images": (3, 3)}, {"readers": 7, "files": 1}) == (
        "kills survived/tried: 2/3 (train 1/2, cam 1/1)\n"
        "bad inputs answered/tried: 3/3 (images 3/3)\n"
        "property cases run: 8 (readers 7, files 1)"
    )


def test_a_half_written_file_is_found(tmp_path: Path) -> None:
    for name, content in (("before", b"old"), ("after", b"new"), ("found", b"ne")):
        (tmp_path / name / "work").mkdir(parents=True)
        (tmp_path / name / "work/x.zip").write_bytes(content)
    folders = [tmp_path / name for name in ("found", "before", "after")]
    assert list(halves(*folders)) == ["work/x.zip is neither old nor new"]
    assert list(halves(folders[1], *folders[1:])) == []


@pytest.mark.slow
def test_a_short_campaign_is_survived(tmp_path: Path) -> None:
    outcomes = list(campaign(SHORT, tmp_path, 7, seed=0))
    assert [str(outcome) for outcome in outcomes if outcome.faults] == []
    assert [outcome.kind for outcome in outcomes] == [*SHORT.first, HEAD_KINDS[0]]
