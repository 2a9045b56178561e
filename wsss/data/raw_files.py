"""Read raw files of a dataset: each once, and none that is unchanged since its last manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar, cast

from pydantic import JsonValue

from wsss.data import labelmap
from wsss.data.images import image_size, mask_labels
from wsss.data.manifest import Listing, Manifest, RawFile, Sources, Stat, file_checksum
from wsss.errors import DatasetError
from wsss.storage.archive import file_of, read_path
from wsss.storage.files import checksum

Fact = TypeVar("Fact")


class RawFiles:
    """Reads raw files, each once; what is known of an unchanged file is taken from a manifest."""

    def __init__(self, earlier: Manifest | None = None) -> None:
        """earlier: the manifest of the same reader's last index, if there is one."""
        self._earlier = dict(earlier.files) if earlier else {}
        self._read: dict[str, RawFile] = {}
        self._listing = Listing()

    def fact(self, path: Path, kind: str, take: Callable[[bytes, str], Fact]) -> tuple[Fact, str]:
        """Return what `take` makes of a file's bytes and path, and the file's checksum.

        kind: names the fact, whose value must be JSON: lists instead of tuples.
        """
        name = path.as_posix()
        file = self._unchanged(name)
        if file is None or kind not in file.facts:
            values = self._listing.stat(name)
            content = read_path(path)
            facts = dict(file.facts) if file else {}
            facts[kind] = cast(JsonValue, take(content, name))
            file = self._note(name, values, content, facts)
        return cast(Fact, file.facts[kind]), file.checksum

    def content(self, path: Path) -> bytes:
        """Return the bytes of a file, and remember what they are."""
        name = path.as_posix()
        values = self._listing.stat(name)
        content = read_path(path)
        self._note(name, values, content, {})
        return content

    def checksum(self, path: Path) -> str:
        """Return the checksum of a file's bytes."""
        name = path.as_posix()
        file, values = self._unchanged(name), self._listing.stat(name)
        return (file or self._note(name, values, read_path(path), {})).checksum

    def _note(
        self, name: str, values: Stat | None, content: bytes, facts: dict[str, JsonValue]
    ) -> RawFile:
        """Remember and return a file. values: its size and time before it was read."""
        file = RawFile(*(values or (len(content), 0)), checksum(content), facts)
        if values:  # a member of an archive has no size and time of its own
            self._read[name] = file
        return file

    def _unchanged(self, name: str) -> RawFile | None:
        """Return what is known of a file, if it has been read before and has not changed since."""
        if name not in self._read:
            file = self._earlier.get(name)
            if file is None or file.stat != self._listing.stat(name):
                return None
            self._read[name] = file
        return self._read[name]

    def note(self, paths: Iterable[Path]) -> None:
        """Remember files before another function opens them, so that every later change is noticed."""
        for name in (path.as_posix() for path in paths):
            if self._listing.stat(name):
                self._read[name] = self._whole(name)

    def manifest(self, sources: Sources) -> Manifest:
        """Return the manifest of `sources`; files that no reader opened are read for their checksum."""
        files = {}
        for name in dict.fromkeys(self._listing.paths(sources)):
            if name in self._read or self._listing.stat(name):
                files[name] = self._whole(name)
        return Manifest(sources, files)

    def _whole(self, name: str) -> RawFile:
        file = self._unchanged(name)
        if file is None:
            size, mtime_ns = self._listing.stat(name) or (0, 0)
            file = RawFile(size, mtime_ns, file_checksum(name))
        return file


def measure(path: Path, raw: RawFiles) -> tuple[tuple[int, int], str]:
    """Return the size (H, W) of an image after EXIF rotation, and its checksum."""
    (height, width), digits = raw.fact(path, "size", _size)
    return (height, width), digits


def _size(content: bytes, path: str) -> list[int]:
    return list(image_size(content, path))


def has_void(path: Path, raw: RawFiles) -> tuple[bool | None, str]:
    """Return whether a mask has the value 255, or None if it cannot be decoded, and its checksum."""
    return raw.fact(path, "void", _has_void)


def _has_void(content: bytes, path: str) -> bool | None:
    try:
        return bool((mask_labels(content, path) == labelmap.IGNORE).any())
    except DatasetError:
        return None


def real_files(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the files of paths, each once; a path may lead into an archive."""
    return tuple(dict.fromkeys(file_of(Path(path)).as_posix() for path in paths))
