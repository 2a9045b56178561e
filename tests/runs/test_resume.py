"""Going on after a dead head, as far as it needs no cluster (tests/slurm has the rest)."""

import json
import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from processes import SECONDS, running

from wsss.errors import MissingError, StaleError
from wsss.machine import slurm
from wsss.machine.lock import Worker
from wsss.runs import resume
from wsss.storage.files import write_json

DEAD = replace(Worker.me(), started="another boot:1")


def head(worker: Worker, *arguments: str) -> None:
    write_json(resume.HEAD, {"worker": asdict(worker), "arguments": list(arguments)})


@pytest.fixture(autouse=True)
def unlocked(monkeypatch: pytest.MonkeyPatch, work: Path) -> list[list[str]]:
    """Work in an empty folder, and note what is unlocked instead of calling Snakemake."""
    calls: list[list[str]] = []
    monkeypatch.setattr(resume, "_unlock", lambda arguments: calls.append(list(arguments)))
    return calls


def test_without_a_run_there_is_nothing_to_resume() -> None:
    with pytest.raises(MissingError, match="no run was begun here"):
        resume.prepare(cancel=False, is_dead=False)


def test_a_living_head_is_left_alone(unlocked: list[list[str]]) -> None:
    resume.note_head(["--cores", "2"])
    with pytest.raises(StaleError, match=r"is alive .* kill -INT \d+"):
        resume.prepare(cancel=True, is_dead=True)
    assert unlocked == []


def test_a_head_elsewhere_is_resumed_only_if_the_user_knows_it_is_dead() -> None:
    head(replace(DEAD, host="login2"), "--cores", "2")
    with pytest.raises(StaleError, match="begun on login2"):
        resume.prepare(cancel=False, is_dead=False)
    assert resume.prepare(cancel=False, is_dead=True) == ["--cores", "2"]


def test_a_head_is_called_again_in_the_folder_of_its_call(
    work: Path, unlocked: list[list[str]]
) -> None:
    (work / "study").mkdir()
    arguments = ["--directory", "study", "--configfile", "mine.yaml"]
    content = {"worker": asdict(DEAD), "arguments": arguments, "folder": str(work)}
    os.chdir("study")
    write_json(resume.HEAD, content)
    assert resume.prepare(cancel=False, is_dead=True) == arguments
    assert (Path.cwd(), unlocked) == (work, [arguments])


def test_the_folder_is_unlocked_only_when_no_job_is_left(
    monkeypatch: pytest.MonkeyPatch, unlocked: list[list[str]]
) -> None:
    head(DEAD, "--profile", "slurm")
    resume.LOGS.mkdir(parents=True)
    (resume.LOGS / "a.snakemake.log").write_text("SLURM run ID: run-1\n")
    job = slurm.Job("5", "run-1", "RUNNING", "rule_train")
    answers = [[job], [job], []]

    def queue(names: set[str]) -> list[slurm.Job]:
        assert names == {"run-1"}
        assert not unlocked
        return answers.pop(0)

    monkeypatch.setattr(slurm, "queue", queue)
    cancelled: list[str] = []
    monkeypatch.setattr(slurm, "cancel", lambda jobs: cancelled.extend(j.number for j in jobs))
    assert resume.prepare(cancel=True, is_dead=False, poll_s=0.01) == ["--profile", "slurm"]
    assert cancelled == ["5"], "once, though it took two looks to end"
    assert unlocked == [["--profile", "slurm"]]


def test_stages_that_a_local_head_left_are_waited_for(work: Path) -> None:
    stage = work / "wsss"
    stage.mkdir()
    (stage / "__main__.py").write_text(f"import time\ntime.sleep({2 * SECONDS})\n")
    command = [sys.executable, "-m", "wsss", "walk"]
    with running(command, env={"PYTHONPATH": str(work)}) as left:
        end = time.monotonic() + SECONDS
        while list(resume.local_jobs()) != [left.pid]:
            assert time.monotonic() < end
            time.sleep(0.01)
        head(DEAD)
        resume.prepare(cancel=True, is_dead=False, poll_s=0.05)
        assert left.wait(SECONDS) < 0


def test_slurm_is_asked_twice_a_minute_at_most_and_no_more_when_its_jobs_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queues = [[slurm.Job("5", "run-1", "RUNNING", "rule_train")], []]
    stages = iter([[], [17], []])
    monkeypatch.setattr(slurm, "queue", lambda _: queues.pop(0))
    monkeypatch.setattr(resume, "local_jobs", lambda: next(stages))
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    head(DEAD)
    resume.prepare(cancel=False, is_dead=False)
    assert pauses == [30.0, 1.0]
    assert queues == []


def test_the_head_writes_down_how_it_was_called() -> None:
    resume.note_head(["--cores", "2", "--config", "a=b c"])
    assert json.loads(resume.HEAD.read_text())["arguments"] == ["--cores", "2", "--config", "a=b c"]
