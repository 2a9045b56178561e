"""Which GPU a process gets: real processes and locks, and folders of made-up driver files."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from processes import SECONDS, running

from wsss.machine.gpu_locks import FOLDER_VARIABLE, VISIBLE, visible_gpus

HOLDER = """
import os, sys, time
from pathlib import Path
from wsss.machine.gpu_locks import take_gpus
from wsss.progress import setup
setup()
take_gpus(int(sys.argv[1]), Path("dev"))
take_gpus(int(sys.argv[1]), Path("dev"))
Path(sys.argv[2]).write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
if sys.argv[3] == "exec":
    os.execv("/bin/sleep", ["sleep", "600"])
if sys.argv[3] == "fork" and not os.fork():
    os.execv("/bin/sleep", ["sleep", "600"])
time.sleep(0 if sys.argv[3] == "end" else 600)
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in the folder of a machine with two GPUs, whose locks lie there too."""
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "dev" / name).touch()
    for name in (VISIBLE, "SLURM_JOB_ID", "LOCAL_RANK", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(name: str, count: int = 1, after: str = "wait") -> list[str]:
    return [sys.executable, "-c", HOLDER, str(count), name, after]


def text_of(*names: str) -> str:
    """Return the text of the first of these files that a process has written to, as soon as it has."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for path in map(Path, names):
            if path.is_file() and (text := path.read_text()):
                return text
        time.sleep(0.01)
    pytest.fail(f"nothing was written to {', '.join(names)}")


@pytest.mark.usefixtures("machine")
def test_each_process_has_a_gpu_of_its_own_and_a_third_one_waits_for_a_death() -> None:
    with running(command("a")) as first, running(command("b")):
        assert {text_of("a"), text_of("b")} == {"0", "1"}
        with Path("said").open("w") as said, running(command("c"), stderr=said):
            assert "waiting for 1 of the GPUs 0,1" in text_of("said")
            assert not Path("c").exists()
            first.kill()
            assert text_of("c") == text_of("a")


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("after", ["exec", "fork"])
def test_a_lock_outlives_exec_and_is_not_inherited_by_children(after: str) -> None:
    with ExitStack() as children, running(command("a", 2, after)) as holder:
        assert text_of("a") == "0,1"
        if after == "exec":
            assert take_one_now() is None
        children.callback(kill_all, holder.children())
        holder.kill()
        holder.wait()
        assert take_one_now() == "0"


def kill_all(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        process.kill()


def take_one_now() -> str | None:
    """Return the GPU that a new process gets, or None if it has to wait."""
    for name in ("new", "said"):
        Path(name).unlink(missing_ok=True)
    with Path("said").open("w") as said, running(command("new", 1, "end"), stderr=said):
        text = text_of("new", "said")
    return None if "waiting" in text else text


@pytest.mark.usefixtures("machine")
def test_two_trainings_on_all_gpus_run_one_after_the_other() -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(running(command(name, 2, "end"))) for name in "abcd"]
        assert [process.wait(SECONDS) for process in processes] == [0] * 4
    assert [text_of(name) for name in "abcd"] == ["0,1"] * 4


@pytest.mark.parametrize(
    ("environment", "count", "result"),
    [
        ({VISIBLE: "5,7,3"}, 1, "7"),
        ({VISIBLE: "5,7,3"}, 2, "7,3"),
        ({VISIBLE: "5"}, 1, "5"),
        ({VISIBLE: "5,7"}, 2, "5,7"),
        ({VISIBLE: "0", "SLURM_JOB_ID": "12"}, 1, "0"),
        ({VISIBLE: "5,7", "SLURM_JOB_ID": "12"}, 1, "5"),
        ({VISIBLE: ""}, 1, ""),
        ({VISIBLE: "5,7,3", "LOCAL_RANK": "1"}, 1, "5,7,3"),
        ({VISIBLE: "5,7,3", FOLDER_VARIABLE: ""}, 1, "5,7,3"),
        ({}, 0, "all"),
        ({}, 3, "all"),
    ],
)
@pytest.mark.usefixtures("machine")
def test_a_choice_of_slurm_torchrun_or_the_user_is_respected(
    environment: dict[str, str], count: int, result: str
) -> None:
    with running(command("a"), env=os.environ | {VISIBLE: "5,11"}):
        assert text_of("a") == "5"
        env = os.environ | environment
        subprocess.run(command("b", count, "end"), env=env, check=True, timeout=SECONDS)
    assert Path("b").read_text() == result


def test_a_machine_without_a_gpu_is_left_alone(machine: Path) -> None:
    for path in (machine / "dev").iterdir():
        path.unlink()
    env = os.environ | {VISIBLE: "0,1"}
    subprocess.run(command("a", 1, "end"), env=env, check=True, timeout=SECONDS)
    assert Path("a").read_text() == "0,1"
    assert not list(machine.glob("*.lock"))


def test_gpus_are_counted_by_the_files_of_their_driver(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert visible_gpus(machine / "dev") == ["0", "1"]
    monkeypatch.setenv(VISIBLE, "GPU-1a, GPU-2b,-1,GPU-3c")
    assert visible_gpus(machine / "dev") == ["GPU-1a", "GPU-2b"]


def test_files_of_locks_serve_every_user_and_one_that_cannot_be_opened_is_named(
    machine: Path,
) -> None:
    assert take_one_now() == "0"
    assert (machine / "wsss-gpu-0.lock").stat().st_mode & 0o777 == 0o666
    (machine / "wsss-gpu-0.lock").unlink()
    (machine / "wsss-gpu-0.lock").symlink_to("elsewhere")
    done = subprocess.run(command("b"), capture_output=True, text=True, check=False)
    assert "wsss-gpu-0.lock, the lock of a GPU, cannot be opened" in done.stderr
    assert not (machine / "elsewhere").exists()


SNAKEFILE = """
from pathlib import Path
from wsss.runs.scaling import limit_gpus
limit_gpus(workflow, Path("dev"))
rule all:
    input: expand("{job}.out", job=list("abcd")), "training.txt"
rule one:
    output: "{job}.out"
    resources: gpu=1
    shell: "python take.py 1 {output}"
rule training:
    output: "training.txt"
    resources: gpu=4
    shell: "python take.py {resources.gpu} {output}"
"""
JOB = """
import os, sys, time
from pathlib import Path
from wsss.machine.gpu_locks import take_gpus
start = time.time()
take_gpus(int(sys.argv[1]), Path("dev"))
gpus = os.environ["CUDA_VISIBLE_DEVICES"]
waited = time.time() - start
time.sleep(0.5)
Path(sys.argv[2]).write_text(f"{gpus} {waited}")
"""


@pytest.mark.slow
def test_jobs_of_a_head_without_a_profile_have_a_gpu_each_and_never_wait(machine: Path) -> None:
    Path("Snakefile").write_text(SNAKEFILE)
    Path("take.py").write_text(JOB)
    call = [sys.executable, "-m", "snakemake", "--cores", "8"]
    done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    jobs = [Path(f"{name}.out").read_text().split() for name in "abcd"]
    training = Path("training.txt").read_text().split()
    assert {gpus for gpus, _ in jobs} == {"0", "1"}
    assert training[0] == "0,1", "gpu: 4 is lowered to what the machine has"
    assert max(float(waited) for _, waited in (*jobs, training)) < 1
