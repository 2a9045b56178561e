"""Whole files or none: atomic writes, checksums and JSON."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wsss.errors import MissingError, StorageError, WsssError

SECTOR = 4096  # bytes; a disk with less space than this is full


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that becomes `path` only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path, "tmp")
    try:
        with storing(path):
            yield temporary
            with temporary.open("rb") as written:
                # whatever the umask: results are read by others
                os.fchmod(written.fileno(), 0o644)
                os.fsync(written.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn whatever a writer of `path` raises on a full disk into a `StorageError`."""
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
    """Return whether a disk is full; some libraries say only that they failed."""
    number = error.errno if isinstance(error, OSError) else None
    return number in (errno.ENOSPC, errno.EDQUOT) or shutil.disk_usage(folder).free < SECTOR


def beside(path: Path, kind: str) -> Path:
    """Return where this process writes what becomes `path`; remove what killed ones have left there."""
    start, host = f".{path.name}.", platform.node()
    for left in path.parent.glob(f"{glob.escape(start)}*.{kind}"):
        owner, _, process = left.name[len(start) : -len(kind) - 1].rpartition("-")
        if owner == host and process.isdigit() and not _is_alive(int(process)):
            left.unlink(missing_ok=True)
    return path.with_name(f"{start}{host}-{os.getpid()}.{kind}")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON with keys in the order given."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; `MissingError` if it is absent or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(
            f"{path} is missing. Run the stage that makes it (snakemake {path})."
        ) from None
    except (ValueError, RecursionError) as error:
        raise MissingError(
            f"{path} is not valid JSON ({error}). Delete it and run again."
        ) from None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    try:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except FileNotFoundError:
        raise MissingError(
            f"{path} is missing. Run the stage that makes it (snakemake {path})."
        ) from None
