"""The GPUs of this machine: their number, and what to do about errors that PyTorch raises for them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

from wsss.errors import ConfigError

OUT_OF_MEMORY = (
    "out of memory|CUDNN_STATUS_ALLOC_FAILED|CUBLAS_STATUS_ALLOC_FAILED|can't allocate memory"
)
LOST = (
    "unspecified launch failure|fallen off the bus|GPU is lost|uncorrectable ECC error|launch timed out|"
    "illegal memory access|hardware stack error|busy or unavailable|CUDA error: unknown error"
)
# Patterns of PyTorch's messages, the first that fits counts, with what happened and what to do about it.
CAUSES = (
    (
        "driver on your system is too old",
        "The NVIDIA driver is too old for the installed PyTorch",
        "Install a newer driver or a PyTorch for an older CUDA, or set CUDA_VISIBLE_DEVICES to an empty "
        "string, which runs everything on processors.",
    ),
    (
        "invalid device ordinal",
        "There are more processes than GPUs",
        "Lower --gpus, or the resource gpu of the rule, to the number of GPUs that `nvidia-smi -L` lists.",
    ),
    (
        OUT_OF_MEMORY,
        "Out of memory",
        "Lower the batch of the stage (cam.batch, decode.batch, segmenter.test.batch), end other processes "
        "on the GPU, or use a GPU with more memory.",
    ),
    (
        LOST,
        "The GPU failed",
        "`nvidia-smi` and `dmesg | grep Xid` name the cause. Start the same command again, on another GPU "
        "if it happens twice: a training goes on from its last saved state.",
    ),
    (
        "device-side assert triggered",
        "An index is out of range on the GPU, for example a label beyond the classes",
        "Check the data with `wsss data check`; CUDA_LAUNCH_BLOCKING=1 and `wsss --debug` show the place.",
    ),
    (
        "no kernel image is available",
        "The installed PyTorch was not built for this GPU",
        "Install a PyTorch that supports the GPU, or set CUDA_VISIBLE_DEVICES to an empty string, which "
        "runs everything on processors.",
    ),
    (
        "NCCL",
        "The processes of the training lost each other",
        "The first error above is the cause, if there is one; NCCL_DEBUG=INFO says more. Start the same "
        "command again: the training goes on from its last saved state.",
    ),
    (
        "does not have a deterministic implementation",
        "A step of the training has no deterministic algorithm on this GPU",
        "Set train.deterministic to false.",
    ),
)


def gpu_count() -> int:
    """Return the number of GPUs that this process may use.

    Raises:
        RuntimeError: the driver is too old. Without this error, PyTorch would use the processor, and
            warn once.
    """
    import torch  # noqa: PLC0415  # slow to import; commands that need no GPU use this module too

    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or torch.version.cuda is None:
        return 0
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]  # raises what is_available() leaves to a warning
    except RuntimeError as error:
        if "too old" in str(error):
            raise
    return 0


def check_gpu_count(processes: int, gpus: int) -> None:
    """Raise `ConfigError` if a machine with GPUs has fewer of them than a training has processes."""
    if 0 < gpus < processes:
        raise ConfigError(
            f"The training is to have {processes} processes with a GPU each on this machine, which has "
            f"{gpus}. Lower --gpus, or the resource gpu of the rule, to {gpus}."
        )


def explained(error: RuntimeError) -> str | None:
    """Return one line for an error of a GPU or of memory: cause, PyTorch's words, what to do.

    Advice that `advising` has attached replaces the general one. The result is None for other errors.
    """
    text = str(error).strip()
    for pattern, cause, advice in CAUSES:
        match = re.search(pattern, text)
        if match:
            line = text[text.rfind("\n", 0, match.start()) + 1 :].partition("\n")[0]
            sentences = re.split(r"(?<=\w)\. (?=[A-Z])", line)[:2]
            notes = getattr(error, "__notes__", [advice])
            return f"{cause} ({'. '.join(sentences).rstrip('.')}). {notes[-1]}"
    return None


@contextlib.contextmanager
def advising(advice: str) -> Iterator[None]:
    """Attach advice to an error that leaves the block because memory is short."""
    try:
        yield
    except RuntimeError as error:
        if re.search(OUT_OF_MEMORY, str(error)):
            error.add_note(advice)
        raise
