"""Archives of class maps are read anew where they have changed, and where the folder is another one."""

from pathlib import Path

import numpy as np
import pytest

from wsss.errors import MissingError
from wsss.storage.archive import Writer
from wsss.storage.cam_archive import Cam, cam_reader, pack


def write(path: Path, value: float) -> None:
    maps = np.full((1, 2, 2), value, np.float16)
    with Writer(path) as writer:
        writer.add("pond.npz", pack(Cam(np.array([0], np.int16), maps, (8, 8), 4)))


def test_an_archive_that_changed_is_read_anew(work: Path) -> None:
    path = work / "cam.zip"
    for value in (0.25, 0.5):
        write(path, value)
        assert float(cam_reader(path)["pond"].cam.max()) == value
    assert cam_reader(path) is cam_reader(path)


def test_a_relative_path_means_the_present_folder(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("one", 0.25), ("two", 0.5)):
        (work / name).mkdir()
        monkeypatch.chdir(work / name)
        write(Path("cam.zip"), value)
        assert float(cam_reader(Path("cam.zip"))["pond"].cam.max()) == value


def test_an_absent_archive_is_named(work: Path) -> None:
    with pytest.raises(MissingError, match=r"cam\.zip is missing"):
        cam_reader(Path("cam.zip"))
