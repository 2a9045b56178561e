"""Who works on a file: the living are respected, the dead are not waited for."""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from processes import SECONDS, running

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


@pytest.mark.parametrize("answer", [True, False, None])
def test_slurm_says_whether_a_job_on_another_machine_lives(
    monkeypatch: pytest.MonkeyPatch, answer: bool | None
) -> None:
    monkeypatch.setattr(slurm, "is_active", lambda number: answer if number == "7_2" else None)
    assert Worker("elsewhere", 3, "boot:1", "7_2").is_alive is answer
    assert Worker("elsewhere", 3, "boot:1").is_alive is None


def test_a_training_elsewhere_lives_until_its_heartbeat_is_old(tmp_path: Path) -> None:
    path = tmp_path / "net.job"
    content = {"worker": asdict(Worker("elsewhere", 3, "boot:1")), "heartbeat_s": 10}
    write_json(path, content)
    os.utime(path, (time.time(), time.time() - 40))
    with pytest.raises(TrainingError, match=r"sign of life 4\d s ago, .* dead 50 s after"):
        claim(path)
    os.utime(path, (time.time(), time.time() - 60))
    claim(path)


def test_a_training_of_which_nobody_can_tell_is_not_begun_twice(tmp_path: Path) -> None:
    path = tmp_path / "net.job"
    hold(path, Worker("elsewhere", 3, "boot:1"))
    os.utime(path, (0, 0))
    with pytest.raises(TrainingError, match=f"no heartbeat. If the job is gone, delete {path}"):
        claim(path)
    path.unlink()
    claim(path)


def claim(path: Path) -> None:
    """Take a claim and give it back."""
    with claimed(path):
        assert read_worker(path) == Worker.me()


HOLDER = """
import sys, time
from pathlib import Path
from wsss.machine.lock import claimed
with claimed(Path(sys.argv[1]), heartbeat_s=0.05):
    time.sleep(600)
"""


def until(is_true: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_claim_is_touched_as_long_as_its_process_lives(tmp_path: Path) -> None:
    path = tmp_path / "net.job"
    with running([sys.executable, "-c", HOLDER, str(path)]) as holder:
        until(path.exists)
        os.utime(path, (0, 0))
        until(lambda: path.stat().st_mtime > 0)
        path.unlink()
        until(path.exists)
        holder.kill()
        holder.wait()
        os.utime(path, (0, 0))
        time.sleep(0.2)
        assert path.stat().st_mtime == 0
    claim(path)


def test_a_process_that_lost_its_claim_ends_and_leaves_that_of_the_other(tmp_path: Path) -> None:
    path = tmp_path / "net.job"
    other = Worker("elsewhere", 3, "boot:1")
    with running([sys.executable, "-c", HOLDER, str(path)]) as holder:
        until(path.exists)
        hold(path, other)
        assert holder.wait(SECONDS) == -signal.SIGTERM
    assert read_worker(path) == other


def test_a_worker_knows_its_slurm_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    assert Worker.me().job == "12"
    assert str(Worker.me()).startswith(f"Slurm job 12, process {os.getpid()} on ")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "11")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert Worker.me().job == "11_3"
