"""Who works on a file: the living are respected, the dead are not waited for."""

import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from processes import running

from wsss.errors import TrainingError
from wsss.machine import slurm
from wsss.machine.lock import Worker, claimed, read_worker
from wsss.storage.files import write_json


def hold(path: Path, worker: Worker) -> None:
    write_json(path, {"worker": asdict(worker)})


def test_a_file_is_claimed_while_the_block_runs(tmp_path: Path) -> None:
    path = tmp_path / "net.job"
    with claimed(path):
        assert read_worker(path) == Worker.me()
    assert not path.exists()


def test_a_living_process_keeps_its_claim(tmp_path: Path) -> None:
    path = tmp_path / "net.job"
    with running(["sleep", "600"]) as parent:
        stat = (Path("/proc") / str(parent.pid) / "stat").read_text()
        started = stat.rpartition(")")[2].split()[19]
        boot = Worker.me().started.partition(":")[0]
        hold(path, replace(Worker.me(), process=parent.pid, started=f"{boot}:{started}"))
        with pytest.raises(TrainingError, match=f"kill {parent.pid}"), claimed(path):
            pass
    with claimed(path):
        assert read_worker(path) == Worker.me()


def test_a_later_process_with_the_same_number_is_another(tmp_path: Path) -> None:
    path = tmp_path / "net.job"
    hold(path, replace(Worker.me(), started="another boot:17"))
    with claimed(path):
        assert read_worker(path) == Worker.me()


@pytest.mark.parametrize("content", ["", "[]", '{"worker": {"host": "a"}}', '{"worker": 3}'])
def test_a_damaged_claim_holds_nobody_up(tmp_path: Path, content: str) -> None:
    (tmp_path / "net.job").write_text(content)
    assert read_worker(tmp_path / "net.job") is None


@pytest.mark.parametrize(("answer", "is_alive"), [(True, True), (False, False), (None, False)])
def test_a_job_on_another_machine_lives_if_slurm_says_so(
    monkeypatch: pytest.MonkeyPatch, answer: bool | None, is_alive: bool
) -> None:
    monkeypatch.setattr(slurm, "is_active", lambda number: answer if number == "7_2" else None)
    assert Worker("elsewhere", 3, "boot:1", "7_2").is_alive is is_alive
    assert not Worker("elsewhere", 3, "boot:1").is_alive


def test_a_worker_knows_its_slurm_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    assert Worker.me().job == "12"
    assert str(Worker.me()).startswith(f"Slurm job 12, process {os.getpid()} on ")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "11")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert Worker.me().job == "11_3"
