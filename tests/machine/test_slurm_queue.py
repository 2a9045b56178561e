"""What is asked of Slurm, by a program of its name that notes its arguments."""

import os
from pathlib import Path

import pytest

from wsss.errors import MissingError
from wsss.machine import slurm

SQUEUE = """#!/bin/sh
printf '%s\\n' "$@" > "$ASKED"
printf '5|run-1|RUNNING|rule_train\\n6|run-3|PENDING|rule|cam\\n'
exit "${CODE:-0}"
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file in which `squeue` notes its arguments."""
    program = tmp_path / "squeue"
    program.write_text(SQUEUE)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ASKED", str(tmp_path / "asked.txt"))
    return tmp_path / "asked.txt"


def test_the_controller_is_asked_for_the_jobs_of_this_folder_alone(asked: Path) -> None:
    jobs = slurm.queue({"run-2", "run-1"})
    assert jobs == [slurm.Job("5", "run-1", "RUNNING", "rule_train")]
    words = asked.read_text().splitlines()
    assert "--me" in words
    assert "--name=run-1,run-2" in words


def test_more_names_than_a_command_takes_are_compared_here(asked: Path) -> None:
    names = {f"run-{number}" for number in range(4 * slurm.NAMES)}
    assert [job.number for job in slurm.queue(names)] == ["5", "6"]
    assert not [word for word in asked.read_text().splitlines() if word.startswith("--name")]


def test_nothing_is_asked_without_a_run(asked: Path) -> None:
    assert slurm.queue(set()) == []
    assert not asked.exists()


@pytest.mark.usefixtures("asked")
def test_a_controller_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODE", "1")
    with pytest.raises(MissingError, match="squeue does not answer"):
        slurm.queue({"run-1"})
