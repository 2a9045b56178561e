"""GPUs of one machine are shared out: a process takes those that no other process has taken.

A process takes a GPU by a lock on a file of that GPU. The kernel frees the lock when the process
ends, however it ends. The lock stays when the process becomes another program (`exec`), and its
children have no part in it. Imports no torch: CUDA reads its variables once, when it starts.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from wsss.errors import StorageError
from wsss.progress import log

VISIBLE = "CUDA_VISIBLE_DEVICES"
FOLDER_VARIABLE = "WSSS_GPU_LOCKS"  # the folder of the files; without it no process takes a GPU
FOLDER = "/tmp"  # noqa: S108  # TMPDIR may differ between users, who must share the files
DEVICES = Path("/dev")
POLL_S = 0.5

# Open files of the GPUs that this process has taken; their locks end with it.
_taken: list[int] = []


def visible_gpus(devices: Path = DEVICES) -> list[str]:
    """Return the GPUs that this process may use, in the words of CUDA_VISIBLE_DEVICES.

    devices: the folder with the files of drivers (NVIDIA's; under Windows there is one for all GPUs).
    """
    count = sum(1 for _ in devices.glob("nvidia[0-9]*")) or int((devices / "dxg").exists())
    chosen = os.environ.get(VISIBLE)
    if not count or chosen is None:
        return [str(number) for number in range(count)]
    names = (name.strip() for name in chosen.split(","))
    return list(itertools.takewhile(lambda name: name not in ("", "-1"), names))


def take_gpus(count: int, devices: Path = DEVICES) -> None:
    """Take `count` free GPUs until this process ends, and hide the others from CUDA; wait for them.

    Nothing is hidden and nothing waited for where CUDA_VISIBLE_DEVICES names no more GPUs than that:
    Slurm or the user has chosen them. A process that torchrun has started uses those of torchrun.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    names = visible_gpus(devices)
    if not folder or not names or _taken or count < 1 or "LOCAL_RANK" in os.environ:
        return
    if len(names) < count or (VISIBLE in os.environ and len(names) == count):
        _taken.extend(_free(names, len(names), Path(folder)).values())
        return
    chosen = _wait_for(names, count, Path(folder))
    if VISIBLE not in os.environ:
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the order of the numbers of nvidia-smi
    os.environ[VISIBLE] = ",".join(chosen)


def _wait_for(names: Sequence[str], count: int, folder: Path) -> list[str]:
    """Take `count` of the GPUs `names` as soon as so many are free at once; return them."""
    is_told = False
    while True:
        files = _free(names, count, folder)
        if len(files) == count:
            _taken.extend(files.values())
            return list(files)
        for file in files.values():  # else two processes with half of their GPUs would wait forever
            os.close(file)
        if not is_told:
            log.info(
                "waiting for %s of the GPUs %s, which other processes have taken; CUDA_VISIBLE_DEVICES "
                "with as many numbers takes these at once",
                count,
                ",".join(names),
            )
            is_told = True
        time.sleep(POLL_S * (1 + os.getpid() % 97 / 97))  # not in step with other waiting processes


def _free(names: Sequence[str], count: int, folder: Path) -> dict[str, int]:
    """Lock the first `count` free GPUs of `names`, or all that are free; return their open files."""
    files: dict[str, int] = {}
    for name in names:
        if len(files) == count:
            break
        file = _open(_lock_path(name, folder))
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
        else:
            os.set_inheritable(file, True)  # for exec: a closed file would end the lock
            files[name] = file
    return files


def _lock_path(name: str, folder: Path) -> Path:
    """Return the lock file of a GPU; a Slurm job counts its GPUs from 0, so it has files of its own."""
    job = os.environ.get("SLURM_JOB_ID")
    words = ["wsss-gpu", *([f"job{job}"] if job else []), re.sub(r"[^\w-]", "_", name)]
    return folder / f"{'-'.join(words)}.lock"


def _open(path: Path) -> int:
    """Open a lock file; make it if it is missing, for all users of the machine."""
    try:
        with suppress(FileExistsError):
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            os.fchmod(file, 0o666)  # whatever the umask is: another user's process locks it next
            return file
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError as error:
        raise StorageError(
            f"{path}, the lock of a GPU, cannot be opened ({error.strerror}). Delete it, or let "
            f"{FOLDER_VARIABLE} name a folder in which all users of the machine can write."
        ) from None
