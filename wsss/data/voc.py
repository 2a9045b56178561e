"""PASCAL VOC 2012: the devkit, and the augmented training set of SBD where it is there.

Labels come from the annotations, difficult and truncated objects included, never from the masks.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from wsss.data.findings import stop_at
from wsss.data.images import measure
from wsss.data.index import Entry, Index
from wsss.errors import DatasetError, WsssError
from wsss.schema import VocParams

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
LISTS = "ImageSets/Segmentation"
AUG_LIST = "train_aug"  # not in the devkit; names the augmented set for those without its masks


def read(params: VocParams, dataset: str) -> Index:
    """Return the index of the devkit under `params.root`; `DatasetError` if it is not whole."""
    index, problems = scan(params, dataset)
    stop_at(problems, dataset)
    return index


def scan(params: VocParams, dataset: str) -> tuple[Index, list[str]]:
    """Return the index of all usable images, and one line for each that is not."""
    root = Path(params.root)
    try:
        splits = _splits(root, root / params.sbd_masks)
    except DatasetError as error:
        return Index(dataset, CLASSES, ()), [str(error)]
    entries, problems = [], []
    for split, names in splits.items():
        for name in names:
            try:
                entries.append(_entry(root, root / params.sbd_masks, name, split))
            except WsssError as error:
                problems.append(str(error))
    return Index(dataset, CLASSES, tuple(entries)), problems


def _splits(root: Path, sbd_masks: Path) -> dict[str, list[str]]:
    """Return split -> ids; `aug` is what SBD adds to train: no image of val or train."""
    train, val = _ids(root / LISTS / "train.txt"), _ids(root / LISTS / "val.txt")
    if sbd_masks.is_dir():
        added = {mask.stem for mask in sbd_masks.glob("*.png")}
    elif (root / LISTS / f"{AUG_LIST}.txt").is_file():
        added = set(_ids(root / LISTS / f"{AUG_LIST}.txt"))
    else:
        added = set()
    return {"train": train, "val": val, "aug": sorted(added - set(train) - set(val))}


def _ids(path: Path) -> list[str]:
    try:
        names = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        raise DatasetError(
            f"{path} cannot be read. Set data.voc12.root to the folder VOC2012 of the devkit, "
            "which holds ImageSets, JPEGImages, Annotations and SegmentationClass."
        ) from None
    if not names:
        raise DatasetError(f"{path} names no image. Unpack VOCtrainval_11-May-2012.tar again.")
    return names


def _entry(root: Path, sbd_masks: Path, name: str, split: str) -> Entry:
    image = root / "JPEGImages" / f"{name}.jpg"
    if not image.is_file():
        raise DatasetError(f"{image} is missing. Unpack VOCtrainval_11-May-2012.tar again.")
    folders = (root / "SegmentationClass", sbd_masks)  # the devkit's masks keep their void contours
    masks = (folder / f"{name}.png" for folder in folders)
    mask = next((mask.as_posix() for mask in masks if mask.is_file()), None)
    labels = _labels(root / "Annotations" / f"{name}.xml")
    return Entry(name, image.as_posix(), mask, labels, split, *measure(image))


def _labels(path: Path) -> tuple[str, ...]:
    """Return the classes of the objects in an annotation; parts and actions are other elements."""
    try:
        tree = ElementTree.parse(path)  # noqa: S314  # expat refuses entities that explode since 2.4
    except OSError:
        raise DatasetError(
            f"{path} is missing, and labels come from it. Unpack the devkit again."
        ) from None
    except ElementTree.ParseError as error:
        raise DatasetError(f"{path} is not valid XML ({error}). Unpack the devkit again.") from None
    named = {(name.text or "").strip() for name in tree.iterfind("object/name")}
    return tuple(sorted(named.intersection(CLASSES)))
