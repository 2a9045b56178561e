"""The raw files of a dataset, as they were when its index was made, and what has changed in them since.

A manifest `files.json` names every raw file with its size, time, checksum and whatever a reader took
from it. A file of the same size and time is unchanged; another time alone is no change. Imports no
array library: Snakemake imports this module before every job.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from wsss.errors import WsssError
from wsss.storage.files import CHECKSUM_DIGITS, read_json, sha256, write_text

Stat = tuple[int, int]  # size in bytes, time of the last change in ns


@dataclass(frozen=True)
class Sources:
    """Where the raw files of a dataset are.

    root: a folder; without it nothing can be compared, and nothing is. files: single files, also
    those that do not exist but would be read. folders: (folder, suffix), all files of this suffix.
    """

    root: str = ""
    files: tuple[str, ...] = ()
    folders: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class RawFile:
    """A raw file when it was read. facts: what readers took from it, as JSON, by the kind of fact."""

    size: int
    mtime_ns: int
    checksum: str
    facts: dict[str, JsonValue] = field(default_factory=dict)

    @property
    def stat(self) -> Stat:
        """Size in bytes and time in ns."""
        return self.size, self.mtime_ns


@dataclass(frozen=True)
class Manifest:
    """The raw files of a dataset by path."""

    sources: Sources
    files: Mapping[str, RawFile]


class _File(BaseModel):
    """The file of a manifest; absent files are null."""

    model_config = ConfigDict(extra="forbid")

    root: str
    folders: list[tuple[str, str]]
    files: dict[str, tuple[int, int, str, dict[str, JsonValue]] | None]


def save_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest as JSON on one line."""
    files: dict[str, object] = dict.fromkeys(manifest.sources.files)
    files |= {
        name: [file.size, file.mtime_ns, file.checksum, file.facts]
        for name, file in manifest.files.items()
    }
    ordered = {name: files[name] for name in sorted(files)}
    sources = manifest.sources
    content = {"root": sources.root, "folders": sources.folders, "files": ordered}
    write_text(path, json.dumps(content, ensure_ascii=False) + "\n")


def load_manifest(path: Path) -> Manifest | None:
    """Return the manifest in a file; None if the file is absent or damaged."""
    try:
        content = _File.model_validate(read_json(path))
    except (WsssError, ValidationError):
        return None
    sources = Sources(content.root, tuple(content.files), tuple(content.folders))
    files = {name: RawFile(*values) for name, values in content.files.items() if values}
    return Manifest(sources, files)


class Listing:
    """Sizes and times of files; every folder is listed once."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, os.DirEntry[str]]] = {}

    def _folder(self, folder: str) -> dict[str, os.DirEntry[str]]:
        if folder not in self._folders:
            try:
                with os.scandir(folder or ".") as entries:
                    self._folders[folder] = {entry.name: entry for entry in entries}
            except OSError:
                self._folders[folder] = {}
        return self._folders[folder]

    def stat(self, path: str) -> Stat | None:
        """Return size and time of a file; None if there is no such file."""
        folder, name = os.path.split(path)
        entry = self._folder(folder).get(name)
        try:
            values = entry.stat() if entry else None
        except OSError:
            return None
        if values is None or not stat.S_ISREG(values.st_mode):
            return None
        return values.st_size, values.st_mtime_ns

    def paths(self, sources: Sources) -> Iterator[str]:
        """Yield all paths of `sources`; those of its files may not exist."""
        yield from sources.files
        for folder, suffix in sources.folders:
            names = (name for name in self._folder(folder) if name.endswith(suffix))
            yield from (f"{folder}/{name}" for name in names)


@dataclass(frozen=True)
class Changes:
    """How the raw files of a dataset differ from its manifest.

    new, gone, changed: paths of files that appeared, disappeared, or have other bytes. touched: files
    with another time and the same bytes.
    """

    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    touched: Mapping[str, RawFile] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.new or self.gone or self.changed)

    def __str__(self) -> str:
        """Return the numbers of files in words, with the first path."""
        lists = (
            (self.new, "is new", "are new"),
            (self.gone, "is gone", "are gone"),
            (self.changed, "has changed", "have changed"),
        )
        counts = [
            f"{len(paths)} raw files {many}" if len(paths) > 1 else f"1 raw file {one}"
            for paths, one, many in lists
            if paths
        ]
        every = [*self.new, *self.gone, *self.changed]
        return f"{', '.join(counts)} ({every[0]}{', …' * (len(every) > 1)})"


def changes(manifest: Manifest) -> Changes:
    """Return how the raw files differ from a manifest; no difference where the raw data is absent."""
    listing = Listing()
    if not Path(manifest.sources.root or ".").exists():
        return Changes()
    stats = {name: listing.stat(name) for name in listing.paths(manifest.sources)}
    stats |= {name: listing.stat(name) for name in manifest.files if name not in stats}
    present = {name: values for name, values in stats.items() if values}
    if manifest.files and not present:
        return Changes()
    other = {
        name: RawFile(*values, file_checksum(name), manifest.files[name].facts)
        for name, values in present.items()
        if name in manifest.files and manifest.files[name].stat != values
    }
    touched = {name: file for name, file in other.items() if _same(file, manifest.files[name])}
    return Changes(
        new=_sorted(name for name in present if name not in manifest.files),
        gone=_sorted(name for name in manifest.files if name not in present),
        changed=_sorted(name for name in other if name not in touched),
        touched=touched,
    )


def _same(file: RawFile, earlier: RawFile) -> bool:
    return file.checksum == earlier.checksum


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names))


def file_checksum(name: str) -> str:
    """Return the checksum of a file; an empty one if it cannot be read."""
    try:
        return sha256(Path(name))[:CHECKSUM_DIGITS]
    except (OSError, WsssError):
        return ""


def touched(manifest: Manifest, present: Changes) -> Manifest:
    """Return the manifest with the present times of the files whose bytes are the same."""
    return replace(manifest, files={**manifest.files, **present.touched})
