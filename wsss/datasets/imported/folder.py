"""A folder with one or several files for each image, and what is wrong with them, counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from wsss.data.index import Entry
from wsss.data.manifest import Sources
from wsss.data.raw_files import RawFiles
from wsss.errors import DatasetError

TOLERATED = 0.05  # share of the images that may differ from their labels, as in `wsss data check`


class Faults:
    """What is wrong with imported files: for each kind the number of images and the first of them."""

    def __init__(self) -> None:
        self._images: dict[str, list[str]] = {}

    def add(self, kind: str, first: str) -> None:
        """Count one image. kind: a sentence with `{count}` and `{first}`. first: the image in words."""
        self._images.setdefault(kind, []).append(first)

    def count(self, kind: str) -> int:
        """Return how many images are of a kind."""
        return len(self._images.get(kind, ()))

    def lines(self, kinds: Iterable[str] | None = None) -> Iterator[str]:
        """Yield a sentence for each kind, or for some of them."""
        for kind in self._images if kinds is None else kinds:
            images = self._images.get(kind, [])
            sentence = _of_one(kind) if len(images) == 1 else kind
            if images:
                yield sentence.format(count=len(images), first=images[0])


def _of_one(sentence: str) -> str:
    """Return a sentence on several images or files as one on a single one."""
    for plural, singular in (("images have", "image has"), ("files have", "file has")):
        sentence = sentence.replace(plural, singular)
    return sentence.replace("files cannot", "file cannot")


class Folder:
    """The files of an import, by the name of their image; hidden files and other suffixes are left out."""

    def __init__(self, path: Path, suffixes: Sequence[str], setting: str) -> None:
        """List the files. setting: the key that names the folder, for messages.

        Raises:
            DatasetError: there is no such folder, no such file in it, or files of several suffixes.
        """
        self.path, self.setting = path, setting
        if not path.is_dir():
            problem = "is no folder" if path.exists() else "does not exist"
            raise DatasetError(f"{path} {problem}. Correct {setting}.")
        files = sorted(
            file
            for file in path.iterdir()
            if file.suffix.lower() in suffixes and not file.name.startswith(".")
        )
        kinds = sorted({file.suffix.lower() for file in files})
        if len(kinds) != 1:
            listed = " and ".join(kinds) or "no file"
            raise DatasetError(
                f"{path} holds {listed}, where files of one suffix are needed "
                f"({', '.join(suffixes)}). Correct {setting}."
            )
        self.suffix = kinds[0]
        self.files = {file.stem: file for file in files}

    @property
    def sources(self) -> Sources:
        """The raw files, for a manifest."""
        suffixes = dict.fromkeys(file.suffix for file in self.files.values())
        folder = self.path.as_posix()
        return Sources(folder, folders=tuple((folder, suffix) for suffix in suffixes))

    def read(self, name: str, raw: RawFiles) -> tuple[bytes, str]:
        """Return the bytes and the path of the file of an image."""
        path = self.files[name]
        return raw.content(path), str(path)


def check_names(
    files: Iterable[str],
    entries: Sequence[Entry],
    where: str,
    setting: str,
    blank: bool = False,
    optional: Sequence[Entry] = (),
) -> list[str]:
    """Return remarks on names; stop if images have no file.

    files: the names that files stand for. where: the folder. blank: images without a file are empty.
    optional: images that need no file.

    Raises:
        DatasetError: with the number of images without a file.
    """
    names, images = set(files), {entry.name for entry in entries}
    missing = sorted(images - names)
    others = sorted(names - images - {entry.name for entry in optional})
    if missing and (not blank or len(missing) == len(images)):
        example = f"; a file is called {others[0]!r}" if others else ""
        raise DatasetError(
            f"{where} has no file for {len(missing)} of {len(images)} images (the first is "
            f"{missing[0]!r}{example}). {_advice(setting, len(missing) < len(images))}"
        )
    remarks = []
    if missing:
        remarks.append(
            f"{len(missing)} of {len(images)} images have no file in {where} (the first is "
            f"{missing[0]!r}) and count as empty"
        )
    if others:
        count = "1 file" if len(others) == 1 else f"{len(others)} files"
        remarks.append(
            f"{where} has {count} of no such image, left out (the first is {others[0]!r})"
        )
    return remarks


def _advice(setting: str, has_some: bool) -> str:
    """Return what to do about images without a file. has_some: other images have one."""
    if has_some:
        return f"Complete them, or set {setting}.missing: blank."
    return f"Correct the path under {setting}, or name the files like the images."
