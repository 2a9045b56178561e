"""CUB-200-2011 (Wah et al., 2011): images of one bird each, with class and box but no mask.

Its test images are the split val, on which localization is scored.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from wsss.data.index import Entry, Index
from wsss.data.manifest import Sources
from wsss.data.problems import Causes, stop_at
from wsss.data.raw_files import RawFiles, measure
from wsss.errors import DatasetError, WsssError
from wsss.settings import CubParams
from wsss.storage.content import stand_in_at

SPLITS = {"1": "train", "0": "val"}
TABLES = ("images", "image_class_labels", "train_test_split", "bounding_boxes")

Box = tuple[float, float, float, float]


def read(params: CubParams, dataset: str, raw: RawFiles | None = None) -> Index:
    """Return the index of the folder `params.root`; `DatasetError` if files are missing or damaged."""
    index, problems = scan(params, dataset, raw)
    stop_at(problems, dataset)
    return index


def sources(params: CubParams, index: Index) -> Sources:
    """Return the tables and the images of the index."""
    tables = (path.as_posix() for path in _tables(params))
    return Sources(params.root, (*tables, *(entry.path for entry in index.images)))


def _tables(params: CubParams) -> list[Path]:
    return [Path(params.root) / f"{name}.txt" for name in TABLES]


def scan(params: CubParams, dataset: str, raw: RawFiles | None = None) -> tuple[Index, list[str]]:
    """Return the index of all usable images, and one line for each problem."""
    root, raw = Path(params.root), raw or RawFiles()
    raw.note(_tables(params))
    try:
        paths, labels, splits, boxes = (_table(root / f"{name}.txt") for name in TABLES)
        _check_ids(
            root,
            {name: set(t) for name, t in zip(TABLES, (paths, labels, splits, boxes), strict=True)},
        )
        classes = _classes(root, paths, labels)
    except DatasetError as error:
        return Index(dataset, (), ()), [str(error)]
    entries, causes = [], Causes()
    for number, (path,) in paths.items():
        try:
            split, box = _split(root, splits[number]), _box(root, boxes[number])
            label = classes[int(labels[number][0]) - 1]
            size, checksum = measure(root / "images" / path, raw)
        except WsssError as error:
            causes.add(str(error), path)
            continue
        image = (root / "images" / path).as_posix()
        name = PurePosixPath(path).stem
        entries.append(Entry(name, image, None, (label,), split, size, checksum, (box,)))
    return Index(dataset, classes, tuple(entries)), causes.lines()


def _table(path: Path) -> dict[str, list[str]]:
    """Return the table as image id -> values, in the order of its lines."""
    try:
        if kind := stand_in_at(path):
            raise DatasetError(f"{path} is {kind}.")
        text = path.read_text(encoding="utf-8")
        rows = [line.split() for line in text.splitlines() if line]
        return {row[0]: row[1:] for row in rows}
    except (OSError, UnicodeDecodeError, IndexError):
        raise DatasetError(
            f"{path} cannot be read. Set data.cub.root to the folder CUB_200_2011 "
            "(`wsss data fetch cub`)."
        ) from None


def _check_ids(root: Path, tables: dict[str, set[str]]) -> None:
    for name, ids in tables.items():
        differing = ids ^ tables["images"]
        if differing:
            raise DatasetError(
                f"{root / name}.txt and images.txt do not name the same images (one has "
                f"{min(differing)}). Unpack CUB_200_2011.tgz again."
            )


def _classes(
    root: Path, paths: dict[str, list[str]], labels: dict[str, list[str]]
) -> tuple[str, ...]:
    """Return the class names in the order of their labels: folder names without their number."""
    folders: dict[int, set[str]] = {}
    try:
        for number, (path,) in paths.items():
            (label,) = labels[number]
            folders.setdefault(int(label), set()).add(PurePosixPath(path).parent.name)
        names = tuple(name.partition(".")[2] for _, (name,) in sorted(folders.items()))
    except ValueError:
        names = ()
    if (
        not names
        or sorted(folders) != list(range(1, len(names) + 1))
        or len(set(names)) < len(names)
    ):
        raise DatasetError(
            f"{root / 'image_class_labels.txt'} does not give each folder of images.txt one label, "
            "from 1 on. Unpack CUB_200_2011.tgz again."
        )
    return names


def _split(root: Path, values: list[str]) -> str:
    if len(values) != 1 or values[0] not in SPLITS:
        raise DatasetError(
            f"{root / 'train_test_split.txt'} has the value {' '.join(values)!r}, not 0 or 1. "
            "Unpack CUB_200_2011.tgz again."
        )
    return SPLITS[values[0]]


def _box(root: Path, values: list[str]) -> Box:
    try:
        left, top, width, height = map(float, values)
    except ValueError:
        raise DatasetError(
            f"{root / 'bounding_boxes.txt'} has the values {' '.join(values)!r}, not x, y, width "
            "and height. Unpack CUB_200_2011.tgz again."
        ) from None
    return left, top, width, height
