"""What ends a job or its head, and how a run goes on: time limits, Ctrl-C, kill -9, `wsss resume`."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from checkout import RUN, Checkout
from one_node import Entry, history, on_slurm, said, start, until
from processes import SECONDS

from wsss.storage.files import read_json

SNAKEMAKE = ("snakemake", "--cores", "2", "--profile", "slurm")
WSSS = (sys.executable, "-m", "wsss")
STATE = f"{RUN}/state/classifier.pt"
IMAGES = 16  # of an epoch of the smoke preset
TRAINING_S = 25  # unless it is held


def slow(checkout: Checkout, local: Checkout) -> None:
    """Make the classifier's training last about TRAINING_S, as this machine's speed was measured."""
    times = read_json(local.folder / RUN.replace("work", "benchmarks", 1) / "classifier.time")
    epochs = int(TRAINING_S * times["images_per_s"] / IMAGES)
    checkout.set({"classifier": {"train": {"epochs": epochs, "save_seconds": 1}}})


def trainings(checkout: Checkout) -> list[Entry]:
    """Return the jobs that trained the classifier."""
    return [entry for entry in history(checkout) if entry.rule == "train"]


def active(checkout: Checkout) -> list[str]:
    """Return the numbers of trainings that wait or run."""
    states = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING")
    return [entry.number for entry in trainings(checkout) if entry.state in states]


def processes(checkout: Checkout) -> list[psutil.Process]:
    """Return the processes that train the classifier of a checkout, on whatever command."""
    training = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            is_training = "train" in words and "classifier" in words
            if is_training and Path(process.cwd()) == checkout.folder:
                training.append(process)
    return training


def signal_training(checkout: Checkout, sent: signal.Signals) -> None:
    """Hold the training of a checkout, or let it go on."""
    held = processes(checkout)
    assert held
    for process in held:
        process.send_signal(sent)


@pytest.fixture(scope="module")
def overtime(
    fresh: Checkout, local: Checkout, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Checkout, psutil.Popen]]:
    """Yield a head whose training is held until its first time limit, the shortest of Slurm, is over."""
    checkout = fresh.copy(tmp_path_factory.mktemp("overtime") / "repository")
    slow(checkout, local)
    on_slurm(checkout, train={"runtime": "1 if attempt == 1 else 10"})
    with start(checkout, *SNAKEMAKE, f"{RUN}/classifier.safetensors") as head:
        until((checkout.folder / STATE).exists, "a saved state", checkout)
        signal_training(checkout, signal.SIGSTOP)
        yield checkout, head


class Story:
    """A run whose head is stopped, killed and resumed while its classifier is trained.

    The training is held in between, so that it does not end while a busy machine answers.
    """

    def __init__(self, checkout: Checkout, heads: ExitStack) -> None:
        self.checkout = checkout
        self.heads = heads  # whoever is still alive at the end of the stack is killed
        self.head: psutil.Popen | None = None
        self.most = 0

    def begin(self, *command: str) -> None:
        """Start a head and wait until a training that it submitted has saved its state."""
        state = self.checkout.folder / STATE
        earlier = {entry.number for entry in trainings(self.checkout)}
        self.head = self.heads.enter_context(start(self.checkout, *command))
        since: list[float] = []  # when the new job was first seen to run

        def saved() -> bool:
            found = trainings(self.checkout)
            self.most = max(self.most, len(active(self.checkout)))
            if any(e.state == "RUNNING" and e.number not in earlier for e in found) and not since:
                since.append(time.time())
            return bool(since) and state.exists() and state.stat().st_mtime > since[0]

        until(saved, "a saved state", self.checkout)
        signal_training(self.checkout, signal.SIGSTOP)

    def end(self, sent: signal.Signals) -> int:
        """Send the head a signal and wait for its end."""
        assert self.head is not None
        os.kill(self.head.pid, sent)
        return self.head.wait(SECONDS)

    def wait(self, happened: Callable[[], bool], what: str) -> None:
        """Wait for something to happen to the run."""
        until(happened, what, self.checkout)


@pytest.fixture(scope="module")
def story(
    overtime: tuple[Checkout, psutil.Popen],
    fresh: Checkout,
    local: Checkout,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Story]:
    """Yield a run that has not begun; the tests below go on with it in their order."""
    checkout = fresh.copy(tmp_path_factory.mktemp("story") / "repository")
    slow(checkout, local)
    with ExitStack() as heads:
        yield Story(on_slurm(checkout), heads)


def test_a_living_head_is_not_resumed_and_its_training_not_doubled(story: Story) -> None:
    story.begin(*SNAKEMAKE, f"{RUN}/cam.zip")
    refused = story.checkout.call(*WSSS, "resume", status=2).stderr
    assert "The run is alive" in refused
    run = RUN.removeprefix("work/")
    doubled = story.checkout.call(*WSSS, "train", run, "classifier", status=2).stderr
    assert f"is being trained by another job (Slurm job {active(story.checkout)[0]}" in doubled


def test_ctrl_c_cancels_the_jobs_and_leaves_no_lock(story: Story) -> None:
    story.end(signal.SIGINT)
    story.wait(lambda: not active(story.checkout), "the end of the jobs")
    assert [entry.state for entry in trainings(story.checkout)] == ["CANCELLED"]
    assert "rule train" in story.checkout.call(*SNAKEMAKE, "--dry-run").stdout


def test_resume_cancels_what_a_killed_head_left_and_goes_on(story: Story) -> None:
    story.begin(*SNAKEMAKE, f"{RUN}/cam.zip")
    story.end(signal.SIGKILL)
    left = active(story.checkout)
    assert len(left) == 1, "the job of the dead head goes on"
    assert "LockException" in story.checkout.call(*SNAKEMAKE, status=1).stderr
    story.begin(*WSSS, "resume", "--cancel")
    assert f"cancelling: {left[0]} rule_train" in said(story.checkout)
    assert [entry.state for entry in trainings(story.checkout)] == ["CANCELLED"] * 2 + ["RUNNING"]


def test_resume_waits_for_the_jobs_of_a_killed_head(story: Story) -> None:
    story.end(signal.SIGKILL)
    [left] = active(story.checkout)
    story.head = story.heads.enter_context(start(story.checkout, *WSSS, "resume"))
    story.wait(lambda: f"waiting for: {left} rule_train" in said(story.checkout), "its waiting")
    signal_training(story.checkout, signal.SIGCONT)
    assert story.head.wait(SECONDS) == 0, said(story.checkout)
    assert (story.checkout.folder / RUN / "cam.zip").is_file()
    states = [entry.state for entry in trainings(story.checkout)]
    assert states == ["CANCELLED"] * 2 + ["COMPLETED"], "it is not submitted a second time"
    assert (
        "going on from step"
        in (story.checkout.folder / f"logs/{RUN.removeprefix('work/')}/classifier.log").read_text()
    )


def test_a_file_never_had_two_jobs_at_once(story: Story) -> None:
    assert story.most == 1


def test_a_training_out_of_time_is_retried_with_more_and_goes_on(
    overtime: tuple[Checkout, psutil.Popen],
) -> None:
    checkout, head = overtime
    assert head.wait(SECONDS) == 0, said(checkout)
    first, *others = trainings(checkout)
    assert first.state == "TIMEOUT"
    assert [entry.state for entry in others] == ["COMPLETED"]
    assert (checkout.folder / RUN / "classifier.safetensors").is_file()
    log = (checkout.folder / f"logs/{RUN.removeprefix('work/')}/classifier.log").read_text()
    assert "going on from step" in log
    rows = (checkout.folder / RUN / "classifier.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(len(rows))), "no step is lost"
