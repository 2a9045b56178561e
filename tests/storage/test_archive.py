"""Archives: equal content gives equal bytes, and a writer that dies leaves nothing."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from wsss.errors import DatasetError, MissingError
from wsss.storage import archive
from wsss.storage.archive import Reader, Writer
from wsss.storage.files import read_json, replacing, write_json


def write(path: Path, names: list[str]) -> None:
    with Writer(path) as writer:
        for name in names:
            writer.add(name, name.encode() * 100)


def test_the_order_of_writing_leaves_no_trace(tmp_path: Path) -> None:
    write(tmp_path / "a.zip", ["x", "y", "z"])
    write(tmp_path / "b.zip", ["z", "x", "y"])
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert Reader(tmp_path / "a.zip").names() == ["x", "y", "z"]


def test_joined_parts_equal_the_whole(tmp_path: Path) -> None:
    write(tmp_path / "whole.zip", ["a", "b", "c", "d"])
    write(tmp_path / "1.zip", ["d", "a"])
    write(tmp_path / "2.zip", ["c", "b"])
    with archive.Writer(tmp_path / "joined.zip") as writer:
        archive.join([tmp_path / "1.zip", tmp_path / "2.zip"], writer)
    assert (tmp_path / "joined.zip").read_bytes() == (tmp_path / "whole.zip").read_bytes()


def test_members_are_stored_plainly_for_other_programs(tmp_path: Path) -> None:
    write(tmp_path / "a.zip", ["x"])
    with zipfile.ZipFile(tmp_path / "a.zip") as content:
        assert content.testzip() is None
        assert content.infolist()[0].compress_type == zipfile.ZIP_STORED


def test_an_error_while_writing_keeps_the_earlier_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    write(path, ["x"])
    before = path.read_bytes()
    with pytest.raises(DatasetError, match="'x' twice"):
        write(path, ["x", "x"])
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["a.zip"]


def test_paths_lead_into_archives(tmp_path: Path) -> None:
    write(tmp_path / "a.zip", ["images/x.png"])
    assert archive.read_path(tmp_path / "a.zip/images/x.png") == b"images/x.png" * 100
    with pytest.raises(MissingError, match="holds no 'images/y.png'"):
        archive.read_path(tmp_path / "a.zip/images/y.png")
    with pytest.raises(MissingError, match="is missing"):
        archive.read_path(tmp_path / "absent.png")


def test_a_path_leads_into_the_archive_that_is_there_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, content in (("one", b"1"), ("two", b"2")):
        with Writer(tmp_path / folder / "a.zip") as writer:
            writer.add("x", content)
        monkeypatch.chdir(tmp_path / folder)
        assert archive.read_path(Path("a.zip/x")) == content
    (tmp_path / "one/a.zip").replace("a.zip")
    assert archive.read_path(Path("a.zip/x")) == b"1"


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"cut short")
    with pytest.raises(MissingError, match="a.zip is damaged"):
        Reader(tmp_path / "a.zip").names()


@pytest.mark.parametrize(
    "array", [np.arange(6).reshape(2, 3), np.array(4), np.zeros((0, 3), np.float16)]
)
def test_arrays_come_back_with_shape_and_type(array: np.ndarray) -> None:
    found = archive.unpack_arrays(archive.pack_arrays({"x": array}))["x"]
    assert (found.shape, found.dtype) == (array.shape, array.dtype)
    assert np.array_equal(found, array)


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert read_json(path) == {"a": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["x.json"]
