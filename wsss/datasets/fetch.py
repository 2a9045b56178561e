"""Download and unpack public files; hashes are verified, and interrupted downloads are resumed.

`sources.yaml` in this folder names the address of every file and the source of its hashes.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from pydantic import PositiveInt

from wsss.errors import ConfigError, DatasetError
from wsss.progress import log, progress
from wsss.settings import Strict
from wsss.settings.weight_files import WeightFile
from wsss.storage.files import replacing

PATH = Path(__file__).with_name("sources.yaml")
CHUNK = 1 << 20
TIMEOUT_S = 60
OFFLINE = "WSSS_OFFLINE"
PRETRAINED = Path("data/pretrained")  # where published files of weights are kept
BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError)


class File(Strict):
    """One public file.

    md5, sha256: the hash or its first digits. citation: the source of size and hashes.
    """

    url: str
    bytes: PositiveInt | None = None
    md5: str | None = None
    sha256: str | None = None
    citation: str

    @property
    def file(self) -> str:
        """The file's name."""
        return PurePosixPath(self.url).name


class Source(File):
    """An archive of a dataset; its folder `unpacks` is moved into the folder `into`."""

    unpacks: str
    into: str


Catalogue = Mapping[str, tuple[Sequence[Source], Sequence[str]]]


def sources() -> Catalogue:
    """Return, by dataset, the files to download, and advice on data that must be requested."""
    content: Mapping[str, Mapping[str, Any]] = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    return {
        dataset: ([_source(f) for f in entry["files"]], list(entry.get("instead", ())))
        for dataset, entry in content.items()
    }


def _source(values: Mapping[str, Any]) -> Source:
    return Source(citation=values["from"], **{k: v for k, v in values.items() if k != "from"})


def fetch(dataset: str, folder: Path, catalogue: Catalogue | None = None) -> list[str]:
    """Download and unpack a dataset under `folder`; return advice on data that must be requested."""
    table = sources() if catalogue is None else catalogue
    if dataset not in table:
        raise ConfigError(f"{dataset!r} cannot be fetched. Name one of {', '.join(table)}.")
    files, instead = table[dataset]
    for source in files:
        target = folder / source.into / source.unpacks
        if target.exists():
            log.info("%s is there already", target)
            continue
        _check_space(source, folder)
        archive = download(source, folder / "downloads")
        unpack(archive, source.unpacks, target)
        log.info("%s -> %s", archive, target)
    return list(instead)


def _check_space(source: Source, folder: Path) -> None:
    """Stop unless the disk has room for the archive and its content, if its size is known."""
    folder.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(folder).free, 2 * (source.bytes or 0)
    if free < needed:
        raise DatasetError(
            f"{source.file} needs {needed / 1e9:.1f} GB under {folder}, and {free / 1e9:.1f} GB are "
            "free. Make room, or name another folder with --folder."
        )


def download(source: File, folder: Path) -> Path:
    """Return the file in `folder`, downloaded if it is missing; its size and hashes are verified.

    The environment variable WSSS_OFFLINE=1 forbids downloads.
    """
    path = folder / source.file
    if path.is_file():
        verify(path, source)
        return path
    if os.environ.get(OFFLINE) == "1":
        raise DatasetError(
            f"{path} is missing, and {OFFLINE}=1 forbids downloads. Fetch {source.url} on a machine "
            f"with a network and put it into {folder}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{source.file}.part"
    if part.is_file() and source.bytes is not None and part.stat().st_size > source.bytes:
        part.unlink()
    if not (part.is_file() and part.stat().st_size == source.bytes):
        _append(source, part)
    try:
        verify(part, source)
    except DatasetError:
        if source.bytes is None or part.stat().st_size >= source.bytes:
            part.unlink()  # complete but wrong: resuming cannot help
        raise
    part.replace(path)
    return path


def fetch_weights(row: WeightFile, folder: Path = PRETRAINED) -> Path:
    """Return the published file of a row with a URL: downloaded if missing, its hash verified.

    A file inside an archive is written beside the archive.

    Raises:
        DatasetError: the file cannot be downloaded or has another hash.
    """
    file = download(File(url=str(row.url), sha256=row.sha256, citation=row.source), folder)
    if row.member is None:
        return file
    path = folder / PurePosixPath(row.member).name
    with zipfile.ZipFile(file) as packed, replacing(path) as temporary:
        temporary.write_bytes(packed.read(row.member))
    return path


def _append(source: File, part: Path) -> None:
    """Download the rest of `part`, or the whole file if the server cannot resume."""
    received_before = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(source.url)  # noqa: S310  # from sources.yaml
    if received_before:
        request.add_header("Range", f"bytes={received_before}-")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            resumed = getattr(answer, "status", None) == 206
            promised = int(answer.headers.get("Content-Length") or 0)
            chunks = progress(_chunks(answer), f"fetching {source.file} (MB)", promised // CHUNK)
            with part.open("ab" if resumed else "wb") as file:
                received = sum(file.write(chunk) for chunk in chunks)
        if received < promised:
            raise OSError(f"it ended after {received} of {promised} bytes")
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the file has no further bytes
            return
        raise _unreachable(source, error, part.parent) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _unreachable(source, error, part.parent) from None


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while chunk := answer.read(CHUNK):
        yield chunk


def _unreachable(source: File, error: Exception, folder: Path) -> DatasetError:
    reason = " ".join(str(error).split())
    return DatasetError(
        f"{source.url} cannot be fetched ({reason}). Run the command again to go on, or put the file "
        f"into {folder} yourself."
    )


def verify(path: Path, source: File) -> None:
    """Stop unless a file has the expected size and hashes."""
    size = path.stat().st_size
    if source.bytes is not None and size != source.bytes:
        raise DatasetError(
            f"{path} has {size} bytes, not {source.bytes}. Run the command again to go on; delete it "
            "if that does not help."
        )
    for kind in ("md5", "sha256"):
        expected = getattr(source, kind)
        if expected and not _digest(path, kind).startswith(expected):
            raise DatasetError(
                f"{path} has another {kind} than expected ({expected}; {source.citation}). "
                "Delete the file, if it still exists, and run the command again."
            )


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(
            file, lambda: hashlib.new(kind, usedforsecurity=False)
        ).hexdigest()


def unpack(archive: Path, name: str, target: Path) -> None:
    """Unpack the folder `name` of an archive to `target`, completely or not at all."""
    temporary = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _extract(archive, name, temporary)
        if not (temporary / name).is_dir():
            raise DatasetError(f"{archive} holds no folder {name}. Delete it and fetch it again.")
        (temporary / name).replace(target)
    except BROKEN as error:
        raise DatasetError(
            f"{archive} is damaged ({error}). Delete it and fetch it again."
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _extract(archive: Path, name: str, folder: Path) -> None:
    """Extract the members of the folder `name`; no member can be written outside `folder`."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder, _under(name, packed.namelist()))  # noqa: S202  # it removes '..'
        return
    with tarfile.open(archive) as tar:
        members = [member for member in tar if _under(name, [member.name])]
        tar.extractall(folder, members, filter="data")


def _under(name: str, members: Sequence[str]) -> list[str]:
    return [member for member in members if PurePosixPath(member).parts[:1] == (name,)]
