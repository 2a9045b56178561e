"""Checksums of files."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from wsss.storage import checkpoint
from wsss.storage.archive import Writer
from wsss.storage.files import LARGE, replacing, sha256, write_json


def test_the_hash_of_a_large_file_follows_its_content(tmp_path: Path) -> None:
    path = tmp_path / "large"
    for content in (b"a" * LARGE, b"b" * LARGE, b"a" * LARGE):
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        assert sha256(path) == sha256(path) == hashlib.sha256(content).hexdigest()


@pytest.fixture(params=[0o002, 0o022, 0o027, 0o077], ids=oct)
def permissions(request: pytest.FixtureRequest) -> Iterator[int]:
    """Set a umask for the time of a test and yield the permissions that it gives new files."""
    before = os.umask(request.param)
    yield 0o666 & ~request.param
    os.umask(before)


def test_files_have_the_permissions_that_the_umask_gives(permissions: int, tmp_path: Path) -> None:
    write_json(tmp_path / "record.json", {})
    with Writer(tmp_path / "images.zip") as archive:
        archive.add("a.png", b"content")
    checkpoint.save(tmp_path / "network.safetensors", {"weight": torch.zeros(1)}, {})
    with replacing(tmp_path / "private") as temporary:
        temporary.touch(0o600)  # as tempfile and some libraries do
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(
        ["record.json", "images.zip", "network.safetensors", "private"], permissions
    )
