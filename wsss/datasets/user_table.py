"""A user's own images, listed in a CSV table with one row per image."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from wsss.data.index import SPLITS, Entry, Index, is_file_name
from wsss.data.manifest import Sources
from wsss.data.problems import Causes, counted, shortened, stop_at
from wsss.data.raw_files import RawFiles, measure, real_files
from wsss.datasets.label_names import label_problems, parts
from wsss.errors import DatasetError, WsssError
from wsss.settings import CsvParams
from wsss.settings.data import BACKGROUND_NAME
from wsss.settings.resolve import closest
from wsss.storage.content import stand_in_at

REQUIRED = ("image", "labels", "split")
OPTIONAL = ("mask", "name")
LISTED = 20  # class names in a message


@dataclass(frozen=True)
class Row:
    """One row: its place (file and line, for messages) and its cells by column."""

    where: str
    cells: dict[str, str]

    def labels(self, separator: str) -> tuple[str, ...]:
        """Return the distinct class names, sorted."""
        return tuple(sorted(set(parts(self.cells["labels"], separator))))


def read(params: CsvParams, dataset: str, raw: RawFiles | None = None) -> Index:
    """Return the index of a table; a `DatasetError` names the file and the rows with problems."""
    index, problems = scan(params, dataset, raw)
    stop_at([*problems, *label_problems(index, params)], dataset)
    return index


def sources(params: CsvParams, index: Index) -> Sources:
    """Return the table, and the images and masks that it names; the root is the images' folder."""
    images = real_files(entry.path for entry in index.images)
    masks = real_files(entry.mask for entry in index.images if entry.mask)
    root = os.path.commonpath([Path(path).parent for path in images])
    return Sources(root, (Path(params.table).as_posix(), *images, *masks))


def scan(params: CsvParams, dataset: str, raw: RawFiles | None = None) -> tuple[Index, list[str]]:
    """Return the index of all usable rows, and one line for each problem."""
    raw = raw or RawFiles()
    raw.note([Path(params.table)])
    try:
        rows = list(_rows(Path(params.table)))
        if not rows:
            raise DatasetError(f"{params.table} has no rows. Write one for each image.")
    except DatasetError as error:
        return Index(dataset, (), ()), [str(error)]
    labels = sorted({label for row in rows for label in row.labels(params.separator)})
    classes = params.classes or tuple(labels)
    entries: list[Entry] = []
    causes = Causes()
    first_lines: dict[str, str] = {}
    for row, name in zip(rows, _names(rows), strict=True):
        try:
            _check(row, name, first_lines)
            entry = _entry(row, name, params, classes, raw)
        except WsssError as error:
            line = row.where.rpartition(", ")[2]
            causes.add(str(error), line, row.cells["image"], row.cells.get("mask", ""), name)
            continue
        if len(entry.labels) == len(row.labels(params.separator)):
            entries.append(entry)
    problems = [*_unlisted(rows, params, dataset), *causes.lines()]
    return Index(dataset, classes, tuple(entries)), problems


def _unlisted(rows: Sequence[Row], params: CsvParams, dataset: str) -> Iterator[str]:
    """Yield a line for each label that the setting `classes` lacks."""
    if not params.classes:
        return
    places: dict[str, list[str]] = {}
    for row in rows:
        for label in row.labels(params.separator):
            if label not in params.classes and label != BACKGROUND_NAME:
                places.setdefault(label, []).append(row.where)
    for label, where in places.items():
        others = f" and {counted(len(where) - 1, 'row', 'rows')} more" if len(where) > 1 else ""
        similar = closest(label, params.classes)
        hint = f"Did you mean {similar[0]!r}? " if similar else ""
        yield (
            f"{where[0]}{others}: the label {label!r} is not one of data.csv.{dataset}.classes "
            f"({shortened(params.classes, LISTED)}). {hint}Correct it, or add it there."
        )


def _rows(table: Path) -> Iterator[Row]:
    """Yield the rows; the first line names the columns."""
    if kind := stand_in_at(table):
        raise DatasetError(f"{table} is {kind}.")
    try:
        with table.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            _check_columns(table, reader.fieldnames or ())
            for cells in reader:
                yield _row(f"{table}, line {reader.line_num}", cells)
    except OSError as error:
        raise DatasetError(
            f"{table} cannot be read ({error.strerror}). Set table of this dataset in data.csv."
        ) from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{table} is not a CSV table in UTF-8 ({error}). Save it as one."
        ) from None


def _check_columns(table: Path, header: Sequence[str]) -> None:
    names = [column.strip() for column in header]
    for column in REQUIRED:
        if column not in names:
            raise DatasetError(
                f"{table} has no column {column!r} (it has {', '.join(names) or 'none'}). "
                f"Name the columns {', '.join(REQUIRED)} in its first line, separated by commas."
            )
    unknown = [name for name in names if name not in REQUIRED + OPTIONAL]
    if unknown or len(set(names)) != len(names):
        raise DatasetError(
            f"{table} has an unknown or doubled column (it has {', '.join(names)}). "
            f"Keep {', '.join(REQUIRED + OPTIONAL)}, each once."
        )


def _row(where: str, cells: dict[str, str]) -> Row:
    if None in cells or None in cells.values():
        raise DatasetError(
            f"{where}: more or fewer cells than columns. Quote cells that hold commas."
        )
    stripped = {str(key).strip(): value.strip() for key, value in cells.items()}
    paths = {key: _posix(stripped[key]) for key in ("image", "mask") if key in stripped}
    return Row(where, stripped | paths)


def _posix(path: str) -> str:
    """Return a relative path that was written on Windows with slashes; other paths as they are."""
    windows = PureWindowsPath(path)
    return path if windows.drive or windows.root else path.replace("\\", "/")


def _names(rows: list[Row]) -> list[str]:
    """Return the names of the images: the cell `name`, or the file stem (the path if stems collide)."""
    stems = Counter(PurePosixPath(row.cells["image"]).stem for row in rows)
    collide = any(count > 1 for count in stems.values())
    return [row.cells.get("name") or _name(row.cells["image"], collide) for row in rows]


def _name(image: str, from_path: bool) -> str:
    path = PurePosixPath(image)
    return (
        path.with_suffix("").as_posix().replace("/", "-") if from_path and path.name else path.stem
    )


def _check(row: Row, name: str, first_lines: dict[str, str]) -> None:
    """Stop if a row is wrong. first_lines: where each image and name first occurred; is updated."""
    for column in ("image", "mask"):
        _check_path(row, column)
    if not row.cells["image"]:
        raise DatasetError(f"{row.where}: the cell image is empty. Write the path of a file.")
    if row.cells["split"] not in SPLITS:
        raise DatasetError(
            f"{row.where}: unknown split {row.cells['split']!r}. Use one of {', '.join(SPLITS)}."
        )
    if not is_file_name(name):
        raise DatasetError(
            f"{row.where}: {name!r} cannot name a file. Write another name, without slashes."
        )
    for kind, value in (("image", row.cells["image"]), ("name", name)):
        earlier = first_lines.setdefault(f"{kind} {value}", row.where)
        if earlier != row.where:
            raise DatasetError(
                f"{row.where}: the {kind} {value!r} is also in {earlier.rpartition(', ')[2]}. "
                "Keep one of them, or tell them apart in the column name."
            )


def _check_path(row: Row, column: str) -> None:
    text = row.cells.get(column, "")
    windows = PureWindowsPath(text)
    if "\0" in text:
        raise DatasetError(
            f"{row.where}: {column} {text!r} is not a path. Write the path of a file."
        )
    if windows.drive or windows.root or ".." in windows.parts:
        raise DatasetError(
            f"{row.where}: {column} {text!r} leads out of the dataset. "
            "Write a path below root, without '..' and without a leading slash."
        )


def _entry(row: Row, name: str, params: CsvParams, classes: Sequence[str], raw: RawFiles) -> Entry:
    """Return the image of a row; its labels are in class order, without those not in `classes`."""
    named = row.labels(params.separator)
    if BACKGROUND_NAME in named:
        raise DatasetError(
            f"{row.where}: {BACKGROUND_NAME!r} is the name of unlabelled pixels. Leave it out, or "
            "rename the class."
        )
    image = Path(params.root, row.cells["image"])
    mask = Path(params.root, row.cells["mask"]) if row.cells.get("mask") else None
    try:
        size, checksum = measure(image, raw)
        mask_checksum = raw.checksum(mask) if mask else ""
    except WsssError as error:
        raise DatasetError(f"{row.where}: {error}") from None
    masked = mask.as_posix() if mask else None
    labels = tuple(label for label in classes if label in named)
    entry = Entry(name, image.as_posix(), masked, labels, row.cells["split"], size, checksum)
    return replace(entry, mask_checksum=mask_checksum)
