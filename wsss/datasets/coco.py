"""MS COCO 2014: its 80 object categories as classes, and masks painted from polygons and run lengths.

COCO has no official semantic masks of these classes; a setting decides which object wins where two
overlap. Image labels come from the annotations, crowds included: masks would lose hidden and tiny
objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsss.data import labelmap
from wsss.data.index import Entry, Index
from wsss.data.manifest import Sources
from wsss.data.problems import Causes, stop_at
from wsss.data.raw_files import RawFiles, measure
from wsss.datasets.coco_json import Annotation, CocoImage, Instances, RunLengths
from wsss.errors import DatasetError, MissingError, WsssError
from wsss.progress import progress
from wsss.settings import CocoParams
from wsss.storage.archive import Writer
from wsss.storage.files import checksum

CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # unused ids below 91
IDS = tuple(number for number in range(1, 91) if number not in GAPS)
LABELS: Mapping[int, int] = {number: label for label, number in enumerate(IDS, 1)}  # id -> 1 .. 80
SPLITS = {"train": "train2014", "val": "val2014"}
# train14_small of MCTformer and PCSS: ranges of train2014 ids (first, last, ids left out).
SMALL = (
    (9, 12953, {
        250, 508, 1111, 1472, 1997, 3640, 3692, 3941, 4308, 4481, 4517, 5500, 6426, 7592, 7625, 7721,
        7823, 8379, 9778, 9809, 10108, 10420, 10654, 11076, 12494, 12641,
    }),
    (113436, 125910, {
        114624, 114741, 115250, 115475, 115566, 115654, 117664, 119438, 120683, 121107, 122159, 123424,
        124145, 124240, 124509, 124731, 124780, 125009,
    }),
    (279647, 291410, {
        280532, 280825, 280879, 281035, 281939, 282586, 284128, 284351, 285717, 287378, 287822, 288131,
        288137, 289071, 291056, 291149,
    }),
)  # fmt: skip


def convert(params: CocoParams, dataset: str, archive: Path, raw: RawFiles | None = None) -> Index:
    """Return the index, and write the mask of every image into `archive`."""
    _routines()
    raw = raw or RawFiles()
    raw.note(_annotations(params, folder) for folder in SPLITS.values())
    problems: list[str] = []
    entries: list[Entry] = []
    causes = Causes()
    with Writer(archive) as writer:
        for split, image, objects in _images(params, problems):
            try:
                entry = _entry(params, split, image, objects, raw)
                if problems or causes:
                    continue  # nothing is written, but the other problems are named too
                mask = labelmap.encode(paint(objects, image.size, params.overlap))
                path = f"{archive}/{image.name}.png"
                entries.append(replace(entry, mask=path, mask_checksum=checksum(mask)))
                writer.add(f"{image.name}.png", mask)
            except WsssError as error:
                causes.add(str(error), image.name)
        stop_at([*problems, *causes.lines()], dataset)
    return Index(dataset, CLASSES, tuple(entries))


def sources(params: CocoParams, index: Index) -> Sources:
    """Return the annotation files and the images of the index."""
    paths = [_annotations(params, folder).as_posix() for folder in SPLITS.values()]
    return Sources(params.root, (*paths, *(entry.path for entry in index.images)))


def _annotations(params: CocoParams, folder: str) -> Path:
    return Path(params.root) / "annotations" / f"instances_{folder}.json"


def scan(params: CocoParams, dataset: str) -> tuple[Index, list[str]]:
    """Return the index of all usable images, without masks, and one line for each problem."""
    raw = RawFiles()
    entries: list[Entry] = []
    problems: list[str] = []
    causes = Causes()
    try:
        for split, image, objects in _images(params, problems):
            try:
                entries.append(_entry(params, split, image, objects, raw))
            except WsssError as error:
                causes.add(str(error), image.name)
    except DatasetError as error:
        problems.append(str(error))
    return Index(dataset, CLASSES, tuple(entries)), [*problems, *causes.lines()]


def _images(
    params: CocoParams, problems: list[str]
) -> Iterator[tuple[str, CocoImage, list[Annotation]]]:
    """Yield (split, image, annotations) of every image that belongs in the index.

    The faults of annotations are added to `problems`.
    """
    for split, folder in SPLITS.items():
        source = Instances(_annotations(params, folder))
        check_categories(source.categories, source.path)
        images = source.annotations()
        faults = source.faults.lines()  # are there when the first image comes
        for image, objects in progress(images, f"reading {folder}", len(source.images)):
            problems += faults
            if objects or params.images == "all":
                yield split, image, objects


def check_categories(categories: Mapping[int, str], path: Path) -> None:
    """Stop unless the file has the ids and names of COCO's 80 object categories."""
    expected = dict(zip(IDS, CLASSES, strict=True))
    differences = sorted(set(categories.items()) ^ set(expected.items()))
    if differences:
        number = differences[0][0]
        raise DatasetError(
            f"{path}: the category {number} is {categories.get(number, 'absent')!r}, not "
            f"{expected.get(number, 'absent')!r}. Use the instances files of COCO 2014, or describe "
            "your data in data.csv."
        )


def _entry(
    params: CocoParams,
    split: str,
    image: CocoImage,
    annotations: Sequence[Annotation],
    raw: RawFiles,
) -> Entry:
    path = Path(params.root) / SPLITS[split] / image.file
    size, digits = measure(path, raw)
    if size != image.size:
        raise DatasetError(
            f"{path} is {size[1]} x {size[0]} px, not {image.size[1]} x {image.size[0]} as its "
            "annotations say. Unpack the official archive again."
        )
    present = sorted({LABELS[annotation["category_id"]] for annotation in annotations})
    labels = tuple(CLASSES[label - 1] for label in present)
    scored = split != "train" or params.seeds == "all" or in_small(image.name)
    listed = split if scored else "aug"
    return Entry(image.name, path.as_posix(), None, labels, listed, size, digits)


def in_small(name: str) -> bool:
    """Return whether train14_small lists an image of train2014, by the number in its name."""
    digits = name.rpartition("_")[2]
    number = int(digits) if digits.isdecimal() else 0
    return any(
        first <= number <= last and number not in left_out for first, last, left_out in SMALL
    )


def paint(
    annotations: Sequence[Annotation], size: tuple[int, int], overlap: str
) -> NDArray[np.uint8]:
    """Return the label mask (H, W), values 0 to 80; crowds are painted like objects.

    overlap: which object wins a pixel: `area`, the one with the smaller annotated area; `first` or
    `last`, in the order of the annotations.
    """
    by_area = overlap == "area"
    ordered = (
        sorted(annotations, key=lambda annotation: annotation["area"]) if by_area else annotations
    )
    labels = np.zeros(size, np.uint8)
    for annotation in ordered:
        pixels = inside(annotation, size)
        if overlap != "last":
            pixels &= labels == 0
        labels[pixels] = LABELS[annotation["category_id"]]
    return labels


def _routines() -> Any:
    """Return the mask routines of pycocotools, which has no types."""
    try:
        from pycocotools import mask  # noqa: PLC0415  # needed for this dataset alone
    except ImportError:
        raise MissingError(
            "pycocotools is not installed, and the masks of coco14 are painted with it. Run "
            "`uv sync --extra coco`."
        ) from None
    return mask


def inside(annotation: Annotation, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels (H, W) an object covers: the union of its polygons, or its run lengths."""
    shape = annotation["segmentation"]
    return covered(shape, size) if shape else np.zeros(size, bool)


def covered(shape: list[list[float]] | RunLengths, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels (H, W) polygons or run lengths cover."""
    coco = _routines()
    if isinstance(shape, list):
        runs = coco.merge(coco.frPyObjects(shape, *size))
    else:
        runs = shape if isinstance(shape["counts"], str) else coco.frPyObjects(shape, *size)
    return np.asarray(coco.decode(runs), bool)
