"""PASCAL VOC 2012: the devkit and, if present, the augmented training set of SBD.

Image labels come from the annotations, difficult and truncated objects included, never from masks.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from wsss.data import labelmap
from wsss.data.images import load_mask, measure
from wsss.data.index import Entry, Index
from wsss.data.problems import stop_at
from wsss.datasets import sbd
from wsss.errors import DatasetError, WsssError
from wsss.progress import progress
from wsss.settings import VocParams
from wsss.storage.archive import Writer

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


def read(params: VocParams, dataset: str) -> Index:
    """Return the index of the devkit under `params.root`; `DatasetError` if files are missing."""
    return _whole(params, dataset, None)


def convert(params: VocParams, dataset: str, archive: Path) -> Index:
    """Return the index; write the masks that only SBD has into `archive` as palette PNGs."""
    index = _whole(params, dataset, archive)
    entries = [entry for entry in index.images if entry.mask == _member(archive, entry.name)]
    with Writer(archive) as writer:
        for entry in progress(entries, "masks of SBD", len(entries)):
            labels = sbd.load_mask(Path(params.sbd), entry.name)
            if labels.shape != entry.size:
                raise DatasetError(
                    f"The mask of {entry.name} in {params.sbd} is {labels.shape[1]} x "
                    f"{labels.shape[0]} px, its image {entry.size[1]} x {entry.size[0]}. Unpack "
                    "benchmark.tgz of SBD again."
                )
            writer.add(f"{entry.name}.png", labelmap.encode(labels))
    return index


def _whole(params: VocParams, dataset: str, archive: Path | None) -> Index:
    index, problems = scan(params, dataset, archive)
    stop_at(problems, dataset)
    masks = {split: [e.mask for e in index.split(split) if e.mask] for split in ("train", "val")}
    lacking = {
        split: [not (load_mask(mask) == index.ignore).any() for mask in paths]
        for split, paths in masks.items()
    }
    stop_at(list(without_void(lacking)), dataset)
    return index


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


def scan(params: VocParams, dataset: str, archive: Path | None = None) -> tuple[Index, list[str]]:
    """Return the index of all usable images, and one line for each problem.

    archive: the archive that has, or will have, the masks of SBD.
    """
    try:
        splits = _splits(params)
    except DatasetError as error:
        return Index(dataset, CLASSES, ()), [str(error)]
    entries, problems = [], []
    for split, names in splits.items():
        for name in names:
            try:
                entries.append(_entry(params, name, split, archive))
            except WsssError as error:
                problems.append(str(error))
    return Index(dataset, CLASSES, tuple(entries)), problems


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


def _entry(params: VocParams, name: str, split: str, archive: Path | None) -> Entry:
    root = Path(params.root)
    image = root / "JPEGImages" / f"{name}.jpg"
    if not image.is_file():
        source = "VOC2012test.tar" if split == "test" else "VOCtrainval_11-May-2012.tar"
        raise DatasetError(f"{image} is missing. Unpack {source} again.")
    size, checksum = measure(image)
    if split == "test":
        return Entry(name, image.as_posix(), None, (), split, size, checksum)
    labels = _labels(root / "Annotations" / f"{name}.xml")
    return Entry(
        name,
        image.as_posix(),
        _mask(params, name, archive),
        labels,
        split,
        size,
        checksum,
        saliency=_saliency(params, name, size) if params.saliency and split != "val" else None,
    )


def _mask(params: VocParams, name: str, archive: Path | None) -> str | None:
    """Return the path of an image's mask; the devkit's mask is preferred for its void contours."""
    root = Path(params.root)
    folders = ["SegmentationClass"] if params.sbd else ["SegmentationClass", params.sbd_masks]
    masks = (root / folder / f"{name}.png" for folder in folders)
    existing = next((mask.as_posix() for mask in masks if mask.is_file()), None)
    return existing or (_member(archive, name) if params.sbd and archive else None)


def _member(archive: Path, name: str) -> str:
    return f"{archive.as_posix()}/{name}.png"


def _saliency(params: VocParams, name: str, size: tuple[int, int]) -> str:
    path = Path(params.saliency) / f"{name}.png"
    if not path.is_file():
        raise DatasetError(
            f"{path} is missing. Put a saliency map for each training image there, or set "
            "data.voc12.saliency to ''."
        )
    map_size = measure(path)[0]
    if map_size != size:
        raise DatasetError(
            f"The saliency map {path} is {map_size[1]} x {map_size[0]} px, its image {size[1]} x "
            f"{size[0]}. Make them equal."
        )
    return path.as_posix()


def _labels(path: Path) -> tuple[str, ...]:
    """Return the classes of the objects in an annotation, without its parts and actions."""
    try:
        tree = ElementTree.parse(path)  # noqa: S314  # expat refuses exploding entities since 2.4
    except OSError:
        raise DatasetError(
            f"{path} is missing, and labels come from it. Unpack the devkit again."
        ) from None
    except ElementTree.ParseError as error:
        raise DatasetError(f"{path} is not valid XML ({error}). Unpack the devkit again.") from None
    named = {(name.text or "").strip() for name in tree.iterfind("object/name")}
    return tuple(sorted(named.intersection(CLASSES)))
