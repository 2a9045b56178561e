"""Downloads: whole files with the right hash or none, resumed where they stopped."""

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from wsss.datasets import fetch as module
from wsss.datasets.fetch import Source, download, fetch, sources
from wsss.errors import ConfigError, DatasetError

TEXT = b"picture" * 5000


def zipped() -> bytes:
    """Return a zip with a folder to keep, another one, and a member that leads out of it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("kept/a/b.txt", "other/c.txt", "kept/../../outside.txt"):
            archive.writestr(name, TEXT)
    return buffer.getvalue()


def tarred(name: str = "kept/a/b.txt") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for each in (name, "other/c.txt"):
            member = tarfile.TarInfo(each)
            member.size = len(TEXT)
            archive.addfile(member, io.BytesIO(TEXT))
    return buffer.getvalue()


class Server:
    """A server of one file that can break off, and notes what was asked for."""

    def __init__(self, content: bytes) -> None:
        self.content, self.cut, self.resumes, self.asked = content, 0, True, list[str | None]()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802  # named by the library
                server.answer(self)

            def log_message(self, *_: Any) -> None:
                return

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Send the file, or what is asked of it, as far as `cut`."""
        asked = handler.headers.get("Range")
        self.asked.append(asked)
        start = int(asked[6:-1]) if asked and self.resumes else 0
        if handler.path.endswith("absent.zip") or start >= len(self.content):
            handler.send_error(404 if "absent" in handler.path else 416)
            return
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(self.content) - start))
        handler.end_headers()
        handler.wfile.write(self.content[start : self.cut or None])

    def url(self, name: str) -> str:
        """Return the address of the file under a name."""
        return f"http://127.0.0.1:{self._http.server_port}/{name}"

    def close(self) -> None:
        """Answer no more."""
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(zipped())
    yield made
    made.close()


def source(url: str, content: bytes, **changes: Any) -> Source:
    values = {
        "url": url,
        "bytes": len(content),
        "md5": hashlib.md5(content).hexdigest(),  # noqa: S324  # as published
        "sha256": hashlib.sha256(content).hexdigest(),
        "citation": "this test",
        "unpacks": "kept",
        "into": "set",
    }
    return Source(**{**values, **changes})


def test_an_archive_is_fetched_verified_and_unpacked_once(server: Server, tmp_path: Path) -> None:
    known = {"mine": ([source(server.url("f.zip"), server.content)], ["Ask for the rest."])}
    assert fetch("mine", tmp_path, known) == ["Ask for the rest."]
    assert (tmp_path / "set/kept/a/b.txt").read_bytes() == TEXT
    assert not (tmp_path / "set/other").exists()
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == ["f.zip"]
    outside = [path for path in tmp_path.parent.rglob("outside.txt")]
    assert all(path.is_relative_to(tmp_path / "set/kept") for path in outside)
    fetch("mine", tmp_path, known)
    assert len(server.asked) == 1


def test_a_local_file_in_a_tar_will_do(tmp_path: Path) -> None:
    path = tmp_path / "there/f.tgz"
    path.parent.mkdir()
    path.write_bytes(tarred())
    known = {"mine": ([source(path.as_uri(), path.read_bytes(), into=".")], [])}
    fetch("mine", tmp_path / "data", known)
    assert (tmp_path / "data/kept/a/b.txt").read_bytes() == TEXT
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["downloads", "kept"]


def test_a_stopped_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    own = source(server.url("f.zip"), server.content)
    server.cut = 100
    with pytest.raises(DatasetError, match=r"ended after 100 of \d+ bytes.*Run the command again"):
        download(own, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["f.zip.part"]
    server.cut = 0
    assert download(own, tmp_path).read_bytes() == server.content
    assert server.asked == [None, "bytes=100-"]


def test_a_server_that_sends_only_wholes_is_understood(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f.zip.part").write_bytes(server.content[:50])
    server.resumes = False
    own = source(server.url("f.zip"), server.content)
    assert download(own, tmp_path).read_bytes() == server.content


@pytest.mark.parametrize("known", [True, False])
def test_a_whole_part_needs_no_more_than_its_name(
    server: Server, tmp_path: Path, known: bool
) -> None:
    (tmp_path / "f.zip.part").write_bytes(server.content)
    size = len(server.content) if known else None
    own = source(server.url("f.zip"), server.content, bytes=size)
    assert download(own, tmp_path).read_bytes() == server.content
    assert len(server.asked) == (0 if known else 1)


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_another_hash_is_refused_and_nothing_is_kept(
    server: Server, tmp_path: Path, kind: str
) -> None:
    own = source(server.url("f.zip"), server.content, **{kind: "0" * 32})
    with pytest.raises(DatasetError, match=f"another {kind} than expected"):
        download(own, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_put_there_by_hand_is_verified_and_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f.zip").write_bytes(b"other")
    with pytest.raises(DatasetError, match=r"f.zip has 5 bytes, not \d+"):
        download(source(server.url("f.zip"), server.content), tmp_path)
    assert (tmp_path / "f.zip").read_bytes() == b"other"
    assert server.asked == []


def test_unreachable_files_are_named_with_what_to_do(server: Server, tmp_path: Path) -> None:
    for url in (server.url("absent.zip"), (tmp_path / "none.zip").as_uri()):
        with pytest.raises(DatasetError, match="cannot be fetched") as caught:
            download(source(url, b"1"), tmp_path)
        assert "\n" not in str(caught.value)


def test_too_little_room_is_said_before(server: Server, tmp_path: Path) -> None:
    own = source(server.url("f.zip"), server.content, bytes=10**18)
    with pytest.raises(DatasetError, match="f.zip needs 2000000000.0 GB"):
        fetch("mine", tmp_path, {"mine": ([own], [])})
    assert server.asked == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f.tgz", tarred("elsewhere/b.txt"), "holds no folder kept"),
        ("f.tgz", tarred()[:200], "is damaged"),
        ("f.zip", b"no archive", "is damaged"),
    ],
    ids=[
        "another archive",
        "cut off",
        "no archive",
    ],  # its time is in an archive: no name of a test
)
def test_an_archive_of_something_else_leaves_nothing(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        fetch("mine", tmp_path / "data", {"mine": ([source(path.as_uri(), content)], [])})
    assert list((tmp_path / "data/set").iterdir()) == []


def test_an_unknown_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Name one of voc12, coco14, cub"):
        fetch("shapes", tmp_path)


def test_every_source_is_known_by_a_hash_and_says_from_where() -> None:
    for files, instead in sources().values():
        assert all("\n" not in line for line in instead)
        for each in files:
            assert each.md5 or each.sha256
            assert each.citation
            assert all(len(h) == n for h, n in ((each.md5, 32), (each.sha256, 64)) if h)
            assert each.url.startswith(("http://", "https://"))
    assert module.PATH.is_file()
