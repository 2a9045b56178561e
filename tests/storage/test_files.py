"""Checksums of files."""

import hashlib
from pathlib import Path

from wsss.storage.files import LARGE, replacing, sha256


def test_the_hash_of_a_large_file_follows_its_content(tmp_path: Path) -> None:
    path = tmp_path / "large"
    for content in (b"a" * LARGE, b"b" * LARGE, b"a" * LARGE):
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        assert sha256(path) == sha256(path) == hashlib.sha256(content).hexdigest()
