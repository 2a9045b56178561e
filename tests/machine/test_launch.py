"""Several processes for one training: how they are started, and that they learn what one learns."""

import csv
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from wsss.data.index import Index, save_index
from wsss.errors import ConfigError
from wsss.machine.launch import _without_counts, command
from wsss.storage import checkpoint

RUN = "shapes/cam/common/s0"
SETTINGS = (
    '{"data": {"shapes": {"train": 24, "val": 6}}, "classifier": {"augment": {"crop_px": 48}, '
    '"train": {"epochs": 2, "batch": 8, "precision": "fp32", "freeze_norm": true, "save_seconds": 1}}}'
)


def test_one_process_needs_no_launcher() -> None:
    assert command(["train"], 1, 1, {}) is None
    assert command(["train"], 4, 1, {"WORLD_SIZE": "4"}) is None, "torchrun has started it"


def test_gpus_of_one_machine_share_a_training() -> None:
    said = command(["train", RUN, "classifier"], 4, 1, {})
    assert said is not None
    assert said[2:] == [
        *("wsss.machine.torchrun", "--nproc-per-node=4", "--standalone"),
        *("-m", "wsss", "train", RUN, "classifier"),
    ]


def test_machines_of_a_slurm_job_meet_on_the_first() -> None:
    job = {"SLURM_JOB_ID": "4321", "SLURMD_NODENAME": "n1", "SLURM_CPUS_PER_TASK": "16"}
    call = command(["segmenter", RUN], 8, 2, job)
    assert call is not None
    assert call[:5] == ["srun", "--overlap", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1"]
    assert call[5] == "--cpus-per-task=16"
    assert {"--nproc-per-node=4", "--nnodes=2", "--rdzv-backend=c10d"} <= set(call)
    with_gpus = command(["segmenter", RUN], 8, 2, {**job, "SLURM_GPUS": "a100:8"})
    assert with_gpus is not None
    assert with_gpus[:3] == ["env", "--unset=SLURM_GPUS", "srun"]
    assert "--gres=gpu:4" in with_gpus, "each machine gets as many"


def test_every_start_has_a_meeting_of_its_own_at_a_free_port() -> None:
    meetings = []
    for _ in range(2):
        call = command(["segmenter", RUN], 8, 2, {"SLURM_JOB_ID": "4321", "SLURMD_NODENAME": "n1"})
        assert call is not None
        options = dict(word.split("=") for word in call if word.startswith("--rdzv-"))
        host, port = options["--rdzv-endpoint"].split(":")
        assert host == "n1"
        with socket.socket() as listener:
            listener.bind(("", int(port)))
        meetings.append(options["--rdzv-id"])
    assert len(set(meetings)) == 2
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in meetings)


def test_what_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 GPUs cannot be shared out among 2 nodes"):
        command(["train"], 3, 2, {"SLURM_JOB_ID": "1"})
    with pytest.raises(ConfigError, match="needs a Slurm job"):
        command(["train"], 4, 2, {})


def test_the_counts_are_not_handed_on() -> None:
    words = ["train", RUN, "classifier", "--gpus", "2", "--nodes=1", "--params", "a.yaml"]
    assert _without_counts(words) == ["train", RUN, "classifier", "--params", "a.yaml"]


def losses(folder: Path) -> list[float]:
    """Return the loss of every step."""
    with (folder / "classifier.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(squares: Index, work: Path) -> None:
    (work / "params.json").write_text(SETTINGS)
    save_index(replace(squares, dataset="shapes"), Path("work/shapes/index.json"))
    folder = Path("work") / RUN
    arguments = ["-m", "wsss", "train", RUN, "classifier", "--params", "params.json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = []
    for gpus in ("1", "2"):
        call = [sys.executable, *arguments, "--gpus", gpus]
        done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.append(
            (losses(folder), checkpoint.load(folder / "classifier.safetensors")[0], done.stderr)
        )
    (alone, weights, _), (shared, same, said) = found
    assert len(alone) == 6
    assert shared == pytest.approx(alone, abs=1e-5)
    assert all((weights[key] - same[key]).abs().max() <= 1e-5 for key in weights)
    assert said.count("classifier done") == 1, "one process speaks and writes"
    assert not list(folder.rglob("state/*"))
