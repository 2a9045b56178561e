"""A full disk, a folder that may not be written to, files that vanish, clocks, two runs at once."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from answer import Answer, wsss
from PIL import Image
from pond import RUN
from processes import SECONDS, running

from wsss.errors import StorageError
from wsss.machine.lock import Worker, _started
from wsss.storage import archive, checkpoint
from wsss.storage.archive import Writer
from wsss.storage.files import beside, replacing, write_json

FULL = "the disk is full. Free space, then run the same again; earlier files are whole."
MASKS = Path("work", RUN, "masks.zip")


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """Mount something on a folder; skip the test where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounts need root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """Let a folder be a disk of this size."""
    with mounted(folder, "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs"):
        yield


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def write_archive(path: Path) -> None:
    with Writer(path) as writer:
        for number in range(100):
            writer.add(f"{number}.bin", bytes(10_000))


WRITERS = {
    "archive.zip": write_archive,
    "net.safetensors": lambda path: checkpoint.save(path, {"a": torch.zeros(250_000)}, {}),
    "record.json": lambda path: write_json(path, {"a": "x" * 1_000_000}),
    "state.pt": lambda path: save_state(path),
    "cam.npz": lambda path: save_array(path),
}


def save_state(path: Path) -> None:
    with replacing(path) as temporary:
        torch.save({"a": torch.zeros(250_000)}, temporary)


def save_array(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(archive.pack_arrays({"a": np.zeros(250_000)}))


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_named_and_the_earlier_file_stays(
    name: str, tmp_path: Path, tried: None
) -> None:
    with small_disk(tmp_path / "disk", 300):
        path = tmp_path / "disk" / name
        path.write_bytes(b"earlier")
        with pytest.raises(StorageError, match="is full") as caught:
            WRITERS[name](path)
        assert str(path) in str(caught.value)
        assert files(tmp_path / "disk") == {name: b"earlier"}


def test_a_stage_on_a_full_disk_says_so_and_succeeds_once_there_is_space(
    ponds: Path, tried: None
) -> None:
    (ponds / "predictions").mkdir()
    with small_disk(ponds / "predictions", 16):
        (ponds / "predictions/filler").write_bytes(bytes(4096))
        answer = wsss("predict", RUN, "photos")
        assert answer.code == 2, answer
        assert "Traceback" not in answer.err
        assert "error: predictions" in answer.err
        whole = [name for name in files(ponds / "predictions") if name.startswith(".")]
        assert whole == []
    wsss("predict", RUN, "photos").accepts()


def test_a_training_on_a_full_disk_keeps_the_earlier_network(ponds: Path, tried: None) -> None:
    folder = ponds / "work" / RUN
    network = (folder / "segmenter.safetensors").read_bytes()
    with small_disk(folder, len(network) // 1024 + 40):
        (folder / "segmenter.safetensors").write_bytes(network)
        wsss("segmenter", RUN).refuses(FULL)
        assert files(folder) == {"segmenter.safetensors": network}


def test_a_folder_that_may_not_be_written_to_is_named(ponds: Path, tried: None) -> None:
    folder = ponds / "work" / RUN
    before = files(folder)
    with mounted(folder, "--bind", str(folder)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        answer = wsss("masks", RUN)
        answer.refuses("Read-only file system. Check the path, its permissions and free space.")
        assert files(folder) == before


@pytest.mark.parametrize("name", ["photos/p2.png", "work/ponds/index/val.json"])
def test_a_file_that_vanished_after_the_check_is_named(name: str, ponds: Path, tried: None) -> None:
    wsss("data", "check", "ponds").accepts()
    (ponds / name).unlink()
    wsss("masks", RUN).refuses(f"{name} is missing.")
    assert not MASKS.exists()


def test_an_image_replaced_after_the_check_is_named(ponds: Path, tried: None) -> None:
    (ponds / "photos/p2.png").write_bytes((ponds / "masks/p2.png").read_bytes())
    wsss("masks", RUN).refuses("photos/p2.png has changed since the index was made.")
    Image.new("RGB", (9, 9)).save(ponds / "photos/p2.png")
    wsss("masks", RUN).refuses("photos/p2.png has changed since the index was made.")


def test_times_of_files_change_no_byte(ponds: Path) -> None:
    wsss("masks", RUN).accepts()
    first = MASKS.read_bytes()
    for path in ponds.rglob("*"):
        os.utime(path, (0, 0) if path.name.endswith("1.png") else (2**32, 2**32))
    wsss("masks", RUN).accepts()
    wsss("data", "prepare", "ponds").accepts()
    assert MASKS.read_bytes() == first


def claim(ponds: Path, process: int) -> Path:
    """Let a process hold the training of the segmenter."""
    path = ponds / "work" / RUN / "state/segmenter.job"
    worker = replace(Worker.me(), process=process, started=_started(process))
    write_json(path, {"worker": asdict(worker)})
    return path


def test_a_second_training_is_refused_and_the_first_one_not_disturbed(
    ponds: Path, tried: None
) -> None:
    before = files(ponds / "work" / RUN)
    with running(["sleep", "600"]) as other:
        path = claim(ponds, other.pid)
        answer = wsss("segmenter", RUN)
        answer.refuses(f"Wait for it, or stop it first: kill {other.pid}.")
        assert path.is_file()
    path.unlink()
    assert files(ponds / "work" / RUN) == before


def test_two_writers_of_one_file_leave_one_whole_file(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from wsss.storage.archive import Writer\n"
        "for _ in range(30):\n"
        "    with Writer(Path(sys.argv[1])) as writer:\n"
        "        [writer.add(str(n), sys.argv[2].encode() * 5000) for n in range(20)]\n"
    )
    path = tmp_path / "x.zip"
    commands = [[sys.executable, "-c", code, str(path), letter] for letter in "ab"]
    with running(commands[0]) as first, running(commands[1]) as second:
        assert [process.wait(SECONDS) for process in (first, second)] == [0, 0]
    reader = archive.Reader(path)
    assert {reader.read(name)[:1] for name in reader.names()} in ({b"a"}, {b"b"})
    assert [each.name for each in tmp_path.iterdir()] == ["x.zip"]


def test_what_killed_processes_left_beside_a_file_is_swept(tmp_path: Path) -> None:
    with running(["true"]) as gone:
        gone.wait()
    mine = beside(tmp_path / "x.json", "tmp").name
    dead = tmp_path / mine.replace(f"-{os.getpid()}.", f"-{gone.pid}.")
    alive = tmp_path / mine.replace(f"-{os.getpid()}.", f"-{os.getppid()}.")
    elsewhere = tmp_path / f".x.json.elsewhere-{gone.pid}.tmp"
    for path in (dead, alive, elsewhere):
        path.write_text("half")
    write_json(tmp_path / "x.json", {})
    assert {path.name for path in tmp_path.iterdir()} == {"x.json", alive.name, elsewhere.name}


def test_an_answer_of_two_lines_would_be_found() -> None:
    with pytest.raises(AssertionError):
        Answer(2, "", "error: one\nerror: two\n").refuses("one")
