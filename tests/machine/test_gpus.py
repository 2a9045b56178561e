"""Errors of GPUs, as PyTorch raises them: one line that says what to do, exit code 2, through the command."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from answer import program, wsss

from wsss.data.index import Index, save_index
from wsss.errors import ConfigError
from wsss.machine import torchrun
from wsss.machine.doctor import report
from wsss.machine.gpus import check_gpu_count, gpu_count
from wsss.machine.runtime import Runtime
from wsss.progress import setup
from wsss.stages import walk
from wsss.training import loop

RUN = "shapes/cam/common/s0"
SETTINGS = '{"classifier": {"train": {"epochs": 1, "batch": 8}}}'
MEMORY = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.20 "
    "GiB is free. Including non-PyTorch memory, this process has 77.90 GiB memory in use. Of the allocated "
    "memory 75.02 GiB is allocated by PyTorch, and 2.10 GiB is reserved by PyTorch but unallocated. If "
    "reserved but unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True."
)
ASYNCHRONOUS = (
    "\nCUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below "
    "might be incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\nCompile with "
    "`TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
)
OLD_DRIVER = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by "
    "downloading and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx "
    "Alternatively, go to: https://pytorch.org to install a PyTorch version that has been compiled with your "
    "version of the CUDA driver."
)


def raising(error: Exception) -> Callable[..., NoReturn]:
    def work(*_: object, **__: object) -> NoReturn:
        raise error

    return work


@pytest.fixture
def ready(squares: Index, work: Path) -> tuple[str, ...]:
    """Return the arguments of a training that could begin."""
    (work / "params.json").write_text(SETTINGS)
    save_index(replace(squares, dataset="shapes"), Path("work/shapes/index.json"))
    return "train", RUN, "classifier", "--params", "params.json"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            torch.OutOfMemoryError(MEMORY),
            "Out of memory (CUDA out of memory. Tried to allocate 2.50 GiB). Set train.accumulate of the "
            "classifier to a larger divisor of its batch of 8",
        ),
        (
            torch.AcceleratorError("CUDA error: unspecified launch failure" + ASYNCHRONOUS),
            "The GPU failed (CUDA error: unspecified launch failure). `nvidia-smi`",
        ),
        (
            torch.AcceleratorError(
                "CUDA error: uncorrectable ECC error encountered" + ASYNCHRONOUS
            ),
            "a training goes on from its last saved state",
        ),
        (
            torch.AcceleratorError("CUDA error: device-side assert triggered" + ASYNCHRONOUS),
            "a label beyond the classes",
        ),
        (
            torch.AcceleratorError("CUDA error: invalid device ordinal" + ASYNCHRONOUS),
            "There are more processes than GPUs",
        ),
        (RuntimeError(OLD_DRIVER), "found version 11040"),
        (
            torch.AcceleratorError(
                "CUDA error: no kernel image is available for execution on the device"
                + ASYNCHRONOUS
            ),
            "was not built for this GPU",
        ),
        (
            RuntimeError(
                "adaptive_max_pool2d_backward_cuda does not have a deterministic implementation, but you "
                "set 'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this "
                "operation."
            ),
            "Set train.deterministic to false",
        ),
        (
            torch.distributed.DistBackendError(
                "NCCL error in: ../torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:2251, remote process "
                "exited or there was a network error, NCCL version 2.27.5\nncclRemoteError: A call failed"
            ),
            "The processes of the training lost each other",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_of_a_gpu_in_a_training_is_one_line(
    ready: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    monkeypatch.setattr(loop.Trainer, "step", raising(error))
    answer = wsss(*ready)
    answer.refuses(message)
    assert not Path("work", RUN, "classifier.safetensors").exists()


def test_memory_that_the_machine_does_not_have_is_one_line(
    ready: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.Trainer, "step", lambda *_: torch.empty(2**50))
    wsss(*ready).refuses("Set train.accumulate of the classifier")


def test_a_stage_that_trains_nothing_is_told_to_lower_its_batch(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "walk", raising(torch.OutOfMemoryError(MEMORY)))
    (work / "params.yaml").write_text("")
    wsss("walk", RUN).refuses("Lower the batch of the stage")


def test_the_traceback_is_there_for_those_who_ask(
    ready: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.Trainer, "step", raising(torch.OutOfMemoryError(MEMORY)))
    answer = wsss("--debug", *ready)
    assert answer.code == 2
    assert "Traceback" in answer.err


def test_a_mistake_in_the_program_keeps_its_traceback(
    ready: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.Trainer, "step", raising(RuntimeError("shapes do not fit")))
    answer = wsss(*ready)
    assert answer.code == 1
    assert "RuntimeError: shapes do not fit" in answer.err


@pytest.fixture
def old_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PyTorch find a driver that is too old: it warns, reports no GPU, and raises when asked again."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", raising(RuntimeError(OLD_DRIVER)))


@pytest.mark.usefixtures("old_driver")
def test_a_driver_that_is_too_old_stops_a_stage_unless_it_may_not_use_a_gpu(
    ready: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    wsss(*ready).refuses("The NVIDIA driver is too old for the installed PyTorch")
    lines, healthy = report()
    assert not healthy
    assert any("driver is too old" in line for line in lines if line.startswith("broken"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu_count() == 0
    assert Runtime.start().device.type == "cpu"


def test_more_processes_than_gpus_are_refused_before_they_start(
    ready: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    wsss(*ready, "--gpus", "2").refuses("Lower --gpus, or the resource gpu of the rule, to 1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(
        ConfigError, match="2 processes with a GPU each on this machine, which has 1"
    ):
        Runtime.start()


def test_processors_may_have_any_number_of_processes() -> None:
    check_gpu_count(2, 0)
    check_gpu_count(2, 2)


def test_processes_that_were_killed_are_named(capfd: pytest.CaptureFixture[str]) -> None:
    setup()
    with pytest.raises(SystemExit, match="2"):
        torchrun.end({0: -15, 1: -9})
    assert "(process 0 by SIGTERM, process 1 by SIGKILL)" in capfd.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        torchrun.end({0: -15, 1: 2})
    with pytest.raises(SystemExit, match="1"):
        torchrun.end({0: -15, 1: 1})


@pytest.mark.slow
def test_processes_that_refuse_their_work_end_without_a_traceback(work: Path) -> None:
    (work / "params.json").write_text(SETTINGS)
    answer = program(
        "train", RUN, "classifier", "--gpus", "2", "--params", "params.json", folder=work
    )
    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert "ChildFailedError" not in answer.err
    errors = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert errors, answer.err
    assert all("work/shapes/index/train.json is missing" in line for line in errors)
