"""PASCAL VOC 2012: the devkit, and the augmented training set of SBD where it is there.

Labels come from the annotations, difficult and truncated objects included, never from the masks.
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
AUG_LIST = "train_aug"  # not in the devkit; names the augmented set for those without its masks

# Every mask of the VOC devkit has void contours; the conversions of SBD have none, and scoring on
# them lowers mIoU by several points. A few masks without may be a cropped or edited copy.
SHARE_WITHOUT_VOID = 0.1


def read(params: VocParams, dataset: str) -> Index:
    """Return the index of the devkit under `params.root`; `DatasetError` if it is not whole."""
    return _whole(params, dataset, None)


def convert(params: VocParams, dataset: str, archive: Path) -> Index:
    """Return the index, and write the masks that SBD alone has into `archive` as indexed PNGs."""
    index = _whole(params, dataset, archive)
    wanted = [entry for entry in index.images if entry.mask == _member(archive, entry.name)]
    with Writer(archive) as writer:
        for entry in progress(wanted, "masks of SBD", len(wanted)):
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
    """Yield a line for each split whose masks are no ground truth to score on.

    lacking: for each mask of the splits train and val whether it has no 255.
    """
    for split, found in lacking.items():
        if sum(found) > SHARE_WITHOUT_VOID * len(found):
            yield (
                f"{sum(found)} of {len(found)} masks of the split {split} have no void contours "
                "(255): they are conversions of SBD. Use SegmentationClass of the VOC 2012 devkit."
            )


def scan(params: VocParams, dataset: str, archive: Path | None = None) -> tuple[Index, list[str]]:
    """Return the index of all usable images, and one line for each that is not.

    archive: where the masks of SBD are, or will be.
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
    """Return split -> ids; `aug` is what SBD adds to train: no image of val or train."""
    root = Path(params.root)
    train, val = _ids(root / LISTS / "train.txt"), _ids(root / LISTS / "val.txt")
    test = root / LISTS / "test.txt"  # of another archive than the rest
    splits = {"train": train, "val": val, "aug": sorted(_added(params) - set(train) - set(val))}
    return {**splits, "test": _ids(test)} if test.is_file() else splits


def _added(params: VocParams) -> set[str]:
    root = Path(params.root)
    if params.sbd:
        return sbd.names(Path(params.sbd))
    if (root / params.sbd_masks).is_dir():
        return {mask.stem for mask in (root / params.sbd_masks).glob("*.png")}
    listed = root / LISTS / f"{AUG_LIST}.txt"
    return set(_ids(listed)) if listed.is_file() else set()


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
    """Return where the mask of an image is; the devkit's come first, for their void contours."""
    root = Path(params.root)
    folders = ["SegmentationClass"] if params.sbd else ["SegmentationClass", params.sbd_masks]
    masks = (root / folder / f"{name}.png" for folder in folders)
    found = next((mask.as_posix() for mask in masks if mask.is_file()), None)
    return found or (_member(archive, name) if params.sbd and archive else None)


def _member(archive: Path, name: str) -> str:
    return f"{archive.as_posix()}/{name}.png"


def _saliency(params: VocParams, name: str, size: tuple[int, int]) -> str:
    path = Path(params.saliency) / f"{name}.png"
    if not path.is_file():
        raise DatasetError(
            f"{path} is missing. Put a saliency map for each training image there, or set "
            "data.voc12.saliency to ''."
        )
    found = measure(path)[0]
    if found != size:
        raise DatasetError(
            f"The saliency map {path} is {found[1]} x {found[0]} px, its image {size[1]} x "
            f"{size[0]}. Make them equal."
        )
    return path.as_posix()


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
