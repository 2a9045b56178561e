"""PASCAL VOC 2012: the devkit and, if present, the augmented training set of SBD.

Image labels come from the annotations, difficult and truncated objects included, never from masks.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from wsss.data import labelmap
from wsss.data.images import load_mask
from wsss.data.index import Entry, Index
from wsss.data.index_parts import TRAINING
from wsss.data.manifest import Sources
from wsss.data.problems import Causes, stop_at
from wsss.data.raw_files import RawFiles, has_void, measure
from wsss.datasets import sbd
from wsss.datasets.name_list import read_names
from wsss.errors import DatasetError, MissingError, WsssError
from wsss.progress import progress
from wsss.settings import VocParams
from wsss.storage.archive import Writer
from wsss.storage.content import stand_in
from wsss.storage.files import checksum

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
LISTS = "ImageSets/Segmentation"
AUG_LIST = "train_aug"  # not in the devkit; lists the augmented set if its masks are absent

# Every mask of the VOC devkit has void contours, masks converted from SBD have none, and scores on the
# latter are several points of mIoU lower. A few masks without void may be cropped or edited copies.
SHARE_WITHOUT_VOID = 0.1


def read(params: VocParams, dataset: str, raw: RawFiles | None = None) -> Index:
    """Return the index of the devkit under `params.root`; `DatasetError` if files are missing."""
    return _whole(params, dataset, None, raw or RawFiles())


def convert(params: VocParams, dataset: str, archive: Path, raw: RawFiles | None = None) -> Index:
    """Return the index; write the masks that only SBD has into `archive` as palette PNGs."""
    raw = raw or RawFiles()
    index = _whole(params, dataset, archive, raw)
    entries = [entry for entry in index.images if entry.mask == _member(archive, entry.name)]
    checksums: dict[str, str] = {}
    with Writer(archive) as writer:
        for entry in progress(entries, "masks of SBD", len(entries)):
            raw.note([sbd.path_of(Path(params.sbd), entry.name)])
            labels = sbd.load_mask(Path(params.sbd), entry.name)
            if labels.shape != entry.size:
                raise DatasetError(
                    f"The mask of {entry.name} in {params.sbd} is {labels.shape[1]} x "
                    f"{labels.shape[0]} px, its image {entry.size[1]} x {entry.size[0]}. Unpack "
                    "benchmark.tgz of SBD again."
                )
            content = labelmap.encode(labels)
            checksums[entry.name] = checksum(content)
            writer.add(f"{entry.name}.png", content)
    images = (
        replace(entry, mask_checksum=checksums.get(entry.name, entry.mask_checksum))
        for entry in index.images
    )
    return replace(index, images=tuple(images))


def sources(params: VocParams, index: Index) -> Sources:
    """Return the lists, and the images, annotations and masks of the index.

    Files of further lists and masks count before they exist: they may be unpacked later.
    """
    root, names = Path(params.root), [entry.name for entry in index.images]
    trained = [entry.name for entry in index.split(*TRAINING)]
    paths = _lists(params)
    paths += [root / "JPEGImages" / f"{name}.jpg" for name in names]
    paths += [root / "Annotations" / f"{name}.xml" for name in names]
    paths += [root / "SegmentationClass" / f"{name}.png" for name in names]
    folders: tuple[tuple[str, str], ...] = ()
    if params.sbd:
        paths += [sbd.path_of(Path(params.sbd), name) for name in trained]
    else:
        folders = (((root / params.sbd_masks).as_posix(), ".png"),)
    return Sources(params.root, tuple(path.as_posix() for path in paths), folders)


def _lists(params: VocParams) -> list[Path]:
    """Return the lists of images that are read where they exist."""
    folder = Path(params.root) / LISTS
    lists = [folder / f"{name}.txt" for name in ("train", "val", "test", AUG_LIST)]
    return lists + ([Path(params.sbd) / name for name in sbd.LISTS] if params.sbd else [])


def _whole(params: VocParams, dataset: str, archive: Path | None, raw: RawFiles) -> Index:
    index, problems = scan(params, dataset, archive, raw)
    stop_at(problems, dataset)
    masks = {split: [e.mask for e in index.split(split) if e.mask] for split in ("train", "val")}
    lacking = {
        split: [_lacks_void(Path(mask), raw) for mask in paths] for split, paths in masks.items()
    }
    stop_at(list(without_void(lacking)), dataset)
    return index


def _lacks_void(mask: Path, raw: RawFiles) -> bool:
    """Return whether a mask lacks the value 255; `DatasetError` if it cannot be decoded."""
    with_void = has_void(mask, raw)[0]
    return not (load_mask(mask) == labelmap.IGNORE).any() if with_void is None else not with_void


def without_void(lacking: Mapping[str, Sequence[bool]]) -> Iterator[str]:
    """Yield a line for each split whose masks were converted from SBD.

    lacking: for each mask of the splits train and val, whether it lacks the value 255.
    """
    for split, flags in lacking.items():
        if sum(flags) > SHARE_WITHOUT_VOID * len(flags):
            yield (
                f"{sum(flags)} of {len(flags)} masks of the split {split} have no void contours "
                "(255): they are conversions of SBD. Use SegmentationClass of the VOC 2012 devkit."
            )


def scan(
    params: VocParams, dataset: str, archive: Path | None = None, raw: RawFiles | None = None
) -> tuple[Index, list[str]]:
    """Return the index of all usable images, and one line for each problem.

    archive: the archive that has, or will have, the masks of SBD.
    """
    raw = raw or RawFiles()
    raw.note(_lists(params))
    try:
        splits = _splits(params)
    except DatasetError as error:
        return Index(dataset, CLASSES, ()), [str(error)]
    entries, causes = [], Causes()
    for split, names in splits.items():
        for name in names:
            try:
                entries.append(_entry(params, name, split, archive, raw))
            except WsssError as error:
                causes.add(str(error), name)
    return Index(dataset, CLASSES, tuple(entries)), causes.lines()


def _splits(params: VocParams) -> dict[str, list[str]]:
    """Return split -> ids; `aug` has the images that SBD adds, without those of train and val."""
    root = Path(params.root)
    train, val = _ids(root / LISTS / "train.txt"), _ids(root / LISTS / "val.txt")
    test = root / LISTS / "test.txt"  # from a separate archive
    splits = {"train": train, "val": val, "aug": sorted(_added(params) - set(train) - set(val))}
    return {**splits, "test": _ids(test)} if test.is_file() else splits


def _added(params: VocParams) -> set[str]:
    root = Path(params.root)
    if params.sbd:
        return sbd.names(Path(params.sbd))
    if (root / params.sbd_masks).is_dir():
        return {mask.stem for mask in (root / params.sbd_masks).glob("*.png")}
    augmented = root / LISTS / f"{AUG_LIST}.txt"
    return set(_ids(augmented)) if augmented.is_file() else set()


def _ids(path: Path) -> list[str]:
    names = read_names(
        path,
        "Set data.voc12.root to the folder VOC2012 of the devkit, which holds ImageSets, JPEGImages, "
        "Annotations and SegmentationClass.",
    )
    if not names:
        raise DatasetError(f"{path} names no image. Unpack VOCtrainval_11-May-2012.tar again.")
    return names


def _entry(params: VocParams, name: str, split: str, archive: Path | None, raw: RawFiles) -> Entry:
    root = Path(params.root)
    image = root / "JPEGImages" / f"{name}.jpg"
    if not image.is_file():
        source = "VOC2012test.tar" if split == "test" else "VOCtrainval_11-May-2012.tar"
        raise DatasetError(f"{image} is missing. Unpack {source} again.")
    size, digits = measure(image, raw)
    if split == "test":
        return Entry(name, image.as_posix(), None, (), split, size, digits)
    labels = _annotated(root / "Annotations" / f"{name}.xml", raw)
    mask, is_file = _mask(params, name, archive)
    entry = Entry(name, image.as_posix(), mask, labels, split, size, digits)
    if mask and is_file:
        # Masks of scored images are decoded here, to look for void contours later.
        decoded = split in ("train", "val")
        digits = has_void(Path(mask), raw)[1] if decoded else raw.checksum(Path(mask))
        entry = replace(entry, mask_checksum=digits)
    return entry


def _annotated(path: Path, raw: RawFiles) -> tuple[str, ...]:
    """Return the classes of the objects in an annotation file."""
    try:
        return tuple(raw.fact(path, "labels", _labels)[0])
    except MissingError:
        raise DatasetError(
            f"{path} is missing, and labels come from it. Unpack the devkit again."
        ) from None


def _mask(params: VocParams, name: str, archive: Path | None) -> tuple[str | None, bool]:
    """Return the path of an image's mask, and whether it is a file and not one of SBD.

    The devkit's mask is preferred for its void contours.
    """
    root = Path(params.root)
    folders = ["SegmentationClass"] if params.sbd else ["SegmentationClass", params.sbd_masks]
    masks = (root / folder / f"{name}.png" for folder in folders)
    existing = next((mask.as_posix() for mask in masks if mask.is_file()), None)
    if existing:
        return existing, True
    return (_member(archive, name) if params.sbd and archive else None), False


def _member(archive: Path, name: str) -> str:
    return f"{archive.as_posix()}/{name}.png"


def _labels(content: bytes, path: str) -> list[str]:
    """Return the classes of the objects in an annotation, without its parts and actions."""
    if kind := stand_in(content, xml=True):
        raise DatasetError(f"{path} is {kind}.")
    try:
        tree = ElementTree.fromstring(content)  # noqa: S314  # expat refuses exploding entities
    except ElementTree.ParseError as error:
        raise DatasetError(f"{path} is not valid XML ({error}). Unpack the devkit again.") from None
    named = {(name.text or "").strip() for name in tree.iterfind("object/name")}
    return sorted(named.intersection(CLASSES))
