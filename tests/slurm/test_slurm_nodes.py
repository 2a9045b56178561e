"""One training on two machines: `gpu` and `nodes` are all that the profile says."""

import csv
import os
import re
import subprocess
from pathlib import Path

import pytest
from checkout import RUN, Checkout
from one_node import Entry, history, on_slurm

BASE = Path(os.environ.get("WSSS_SLURM_DIR", "/var/lib/wsss-slurm"))
WEIGHTS = f"{RUN}/classifier.safetensors"


@pytest.fixture(scope="module")
def alone(fresh: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a copy whose classifier one process has trained, without batch statistics."""
    checkout = fresh.copy(tmp_path_factory.mktemp("alone") / "repository")
    checkout.set({"classifier": {"train": {"freeze_norm": True, "precision": "fp32"}}})
    checkout.snakemake(WEIGHTS)
    return checkout


@pytest.fixture(scope="module")
def spread(alone: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a copy whose classifier two nodes have trained, with a process each."""
    checkout = alone.copy(tmp_path_factory.mktemp("spread") / "repository")
    (checkout.folder / WEIGHTS).unlink()
    on_slurm(checkout, train={"gpu": 2, "nodes": 2})
    checkout.call("snakemake", "--cores", "2", "--profile", "slurm", WEIGHTS)
    return checkout


@pytest.fixture
def training(spread: Checkout) -> Entry:
    """Return the job of the training; there is one, so nothing was tried twice."""
    [entry] = [entry for entry in history(spread) if entry.rule == "train"]
    assert entry.state == "COMPLETED"
    return entry


def test_each_machine_gets_one_process_and_one_gpu(training: Entry) -> None:
    call = ["scontrol", "--details", "--oneliner", "show", "job", training.number]
    job = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    for words in (
        "NodeList=n[1-2]",
        "NumTasks=2",
        "TresPerJob=gres:gpu:2",
        "TresPerNode=gres:gpu:1",
    ):
        assert words in job
    for node in ("n1", "n2"):
        log = (BASE / f"log/slurmd-{node}.log").read_text()
        assert re.search(rf"launch task StepId={training.number}\.0 ", log), f"{node} ran nothing"


def test_two_machines_have_the_losses_of_one(spread: Checkout, alone: Checkout) -> None:
    losses = []
    for checkout in (spread, alone):
        with (checkout.folder / RUN / "classifier.csv").open() as file:
            losses.append([float(row["loss"]) for row in csv.DictReader(file)])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert len(losses[0]) > 1


def test_the_log_says_that_two_processes_trained(spread: Checkout) -> None:
    log = spread.folder / RUN.replace("work", "logs", 1) / "classifier.log"
    assert "on 2 x cpu" in log.read_text()
