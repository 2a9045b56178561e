"""A user's own photographs: which files are meant, what their outputs are called, what is in them."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from wsss.data.labelmap import FORMATS
from wsss.data.problems import shortened
from wsss.errors import DatasetError, one_line
from wsss.progress import log
from wsss.settings.resolve import closest
from wsss.storage.content import refuse_pipe

SEPARATOR = ";"  # between two labels in a cell, as in a dataset's table


@dataclass(frozen=True)
class Photograph:
    """An image. name: of its outputs, its path in the folder that was named, without suffix."""

    path: Path
    name: str


@functools.cache
def suffixes() -> frozenset[str]:
    """Return the suffixes of the formats that can be read, in lower case with their dot."""
    return frozenset(
        suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS
    )


def photographs(sources: Sequence[Path], recursive: bool, out: Path) -> list[Photograph]:
    """Return the images among `sources` and inside their folders, sorted within each folder.

    recursive: look into subfolders too. out: the folder of outputs, whose images are none of these.
    Hidden files are passed over; other files that are no images are named in a warning.

    Raises:
        DatasetError: a source does not exist, a folder holds no images, or two images have one name.
    """
    named: list[Photograph] = []
    for source in sources:
        if source.is_dir():
            named += _inside(source, recursive, out)
        elif source.exists():
            named.append(Photograph(source, source.stem))
        else:
            raise DatasetError(f"{source} does not exist. Name images or folders of images.")
    images = list({image.path.resolve(): image for image in reversed(named)}.values())[::-1]
    _check_names(images)
    return images


def _inside(folder: Path, recursive: bool, out: Path) -> list[Photograph]:
    """Return the images of a folder."""
    files = [
        path
        for path in sorted(_files(folder, recursive))
        if not path.resolve().is_relative_to(out.resolve())
    ]
    images = [path for path in files if path.suffix.lower() in suffixes()]
    others = [str(path) for path in files if path.suffix.lower() not in suffixes()]
    if not images:
        inner = next(
            (path for path in _files(folder, True) if path.suffix.lower() in suffixes()), ""
        )
        advice = f" Subfolders hold some, such as {inner}: add --recursive." if inner else ""
        raise DatasetError(
            f"The folder {folder} holds no images ({', '.join(sorted(suffixes()))}).{advice}"
        )
    if others:
        log.warning("%s", one_line(f"Passed over, because no images: {shortened(others, 5)}"))
    return [
        Photograph(path, path.relative_to(folder).with_suffix("").as_posix()) for path in images
    ]


def _files(folder: Path, recursive: bool) -> Iterator[Path]:
    """Yield the files of a folder whose names, and whose folders' names, do not begin with a dot."""
    for path in folder.rglob("*") if recursive else folder.iterdir():
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not is_hidden and not path.is_dir():
            yield path


def _check_names(images: Iterable[Photograph]) -> None:
    by_name: dict[str, Path] = {}
    for photograph in images:
        other = by_name.setdefault(photograph.name, photograph.path)
        if other is not photograph.path:
            raise DatasetError(
                f"{other} and {photograph.path} would both be written as {photograph.name}.png. "
                "Rename one of them."
            )


def known_labels(
    text: str, images: Sequence[Photograph], classes: Sequence[str]
) -> dict[str, list[int]]:
    """Return the numbers of the classes of each image, by its name.

    text: classes separated by commas, which are in all images, or a CSV table with the columns `image`
    and `labels`. classes: the names that the network knows, by number from 0.

    Raises:
        DatasetError: the table cannot be read, lacks an image, or names an unknown class.
    """
    if not Path(text).is_file() and not text.lower().endswith(".csv"):
        names = [text] if text in classes else [part.strip() for part in text.split(",")]
        numbers = _numbers(names, classes, "--labels")
        return {image.name: numbers for image in images}
    table = _table(Path(text))
    labels = {}
    for image in images:
        cell = table.get(image.name, table.get(image.path.with_suffix("").as_posix()))
        if cell is None:
            raise DatasetError(f"{text} has no row for {image.path}. Add one, with its labels.")
        names = [part.strip() for part in cell.split(SEPARATOR)]
        labels[image.name] = _numbers([name for name in names if name], classes, text)
    return labels


def _numbers(names: Sequence[str], classes: Sequence[str], where: str) -> list[int]:
    for name in names:
        if name not in classes:
            near = closest(name, classes)
            hint = f"Did you mean {near[0]!r}?" if near else f"It knows {shortened(classes, 20)}."
            raise DatasetError(f"{where}: the network does not know the class {name!r}. {hint}")
    return sorted({classes.index(name) for name in names})


def _table(path: Path) -> Mapping[str, str]:
    """Return the cell `labels` of each row, by the image's path without suffix and by its stem."""
    try:
        refuse_pipe(path)
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines, strict=True))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{path} cannot be read as a CSV table in UTF-8 ({error}). Name classes or a table."
        ) from None
    if not rows or not {"image", "labels"} <= set(rows[0]):
        raise DatasetError(f"{path} needs the columns image and labels, and a row for each image.")
    cells: dict[str, str] = {}
    for row in rows:
        image = PurePosixPath(str(row["image"]))
        for name in (image.stem, image.with_suffix("").as_posix() if image.name else ""):
            cells[name] = str(row["labels"] or "")
    return cells
