"""Files on disk: atomic writes, checksums and JSON."""

from __future__ import annotations

import errno
import functools
import glob
import hashlib
import json
import os
import platform
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wsss.errors import MissingError, StorageError, WsssError
from wsss.storage.content import refuse_pipe

CHECKSUM_DIGITS = 16  # of the SHA-256 of an image, mask or other raw file
SECTOR = 4096  # bytes; a disk with less space than this is full
LARGE = 1 << 20  # bytes, from which on the hash of a file is remembered until the file changes


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that becomes `path` only if the block succeeds.

    The file gets the permissions that the umask gives new files, whatever library writes it: some
    make private files, which other users of a shared folder could not read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path, "tmp")
    try:
        with storing(path):
            permissions = _new_permissions(temporary)
            yield temporary
            with temporary.open("rb") as written:
                os.fchmod(written.fileno(), permissions)
                os.fsync(written.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _new_permissions(path: Path) -> int:
    """Return the permission bits of a new file in this folder, by umask and default ACL; `path` is free."""
    path.touch()
    permissions = stat.S_IMODE(path.stat().st_mode)
    path.unlink()
    return permissions


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn any error that a full disk causes while `path` is written into a `StorageError`."""
    try:
        yield
    except WsssError:
        raise
    except Exception as error:
        if not _is_full(error, path.parent):
            raise
        raise StorageError(
            f"{path} could not be written: the disk is full. Free space, then run the same again; "
            "earlier files are whole."
        ) from None


def _is_full(error: Exception, folder: Path) -> bool:
    """Return whether the disk is full; some libraries report only that writing failed."""
    number = error.errno if isinstance(error, OSError) else None
    return number in (errno.ENOSPC, errno.EDQUOT) or shutil.disk_usage(folder).free < SECTOR


def beside(path: Path, kind: str) -> Path:
    """Return this process's temporary path beside `path`; delete files and folders of killed ones."""
    start, host = f".{path.name}.", platform.node()
    for leftover in path.parent.glob(f"{glob.escape(start)}*.{kind}"):
        owner, _, process = leftover.name[len(start) : -len(kind) - 1].rpartition("-")
        if owner == host and process.isdigit() and not _is_alive(int(process)):
            remove(leftover)
    return path.with_name(f"{start}{host}-{os.getpid()}.{kind}")


def remove(path: Path) -> None:
    """Delete a file, or a folder with all it holds, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write `content` as indented JSON; keys keep their order."""
    write_text(path, _json_text(content))


def update_json(path: Path, content: Mapping[str, object]) -> bool:
    """Write `content` as `write_json` does, unless the file says it already; return whether it did not."""
    text = _json_text(content)
    if path.is_file() and path.read_bytes() == text.encode():
        return False
    write_text(path, text)
    return True


def _json_text(content: Mapping[str, object]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; `MissingError` if the file is absent or damaged."""
    try:
        refuse_pipe(path)
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise absent(path) from None
    except (ValueError, RecursionError) as error:
        raise MissingError(
            f"{path} is not valid JSON ({error}). Delete it and run again."
        ) from None


def absent(path: Path) -> MissingError:
    """Return the error for a file of the pipeline that does not exist yet."""
    return MissingError(
        f"{path} is missing. Run the stage that makes it (snakemake --cores 1 {path})."
    )


def checksum(content: bytes) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a file's bytes."""
    return hashlib.sha256(content).hexdigest()[:CHECKSUM_DIGITS]


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits; a process reads a large file once."""
    try:
        if path.stat().st_size < LARGE:
            return _sha256(path)
        return _sha256_of_large(path.absolute(), identity(path))
    except FileNotFoundError:
        raise absent(path) from None


def identity(path: Path) -> tuple[int, ...]:
    """Return numbers of which one is another if a file was changed or replaced; error if it is absent."""
    try:
        about = path.stat()
    except FileNotFoundError:
        raise absent(path) from None
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


@functools.lru_cache(maxsize=64)
def _sha256_of_large(path: Path, changes: tuple[int, ...]) -> str:  # noqa: ARG001  # part of the key
    return _sha256(path)
