"""Where the CRF runs. Imports torch only on a machine that may have a GPU: CPU stages start faster."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from wsss.errors import ConfigError
from wsss.machine.gpu_locks import take_gpus

# Files in /dev of the drivers of NVIDIA, of NVIDIA under Windows (WSL), and of AMD.
DRIVER_FILES = ("nvidia[0-9]*", "dxg", "kfd")


def crf_device(choice: Literal["auto", "cpu", "gpu"], devices: Path = Path("/dev")) -> str | None:
    """Return the torch device on which the CRF runs; None: it runs in pydensecrf.

    choice: the setting `crf.device`. devices: the folder with the files of drivers.

    Raises:
        ConfigError: a GPU is asked for, but there is none.
    """
    if choice != "cpu" and has_gpu(devices):
        return "cuda"
    if choice == "gpu":
        raise ConfigError(
            "crf.device is gpu, but PyTorch finds no GPU here. Set crf.device: auto, or run the stage "
            "where there is one."
        )
    return None


def device_name(device: str | None) -> str:
    """Return the name of the device of a CRF, for records."""
    if device is None:
        return "cpu"
    import torch  # noqa: PLC0415  # takes seconds

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def has_gpu(devices: Path) -> bool:
    """Return whether PyTorch can use a GPU of this machine; take a GPU where there are several."""
    if not any(any(devices.glob(pattern)) for pattern in DRIVER_FILES):
        return False
    take_gpus(1, devices)
    import torch  # noqa: PLC0415  # takes seconds

    return torch.cuda.is_available()
