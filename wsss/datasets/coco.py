"""MS COCO 2014: the 80 things as classes, and masks painted from polygons and run lengths.

There are no official masks of this kind; which object wins where two overlap is a parameter. Labels
come from the annotations, crowds included: from masks, hidden and tiny objects would be lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsss.data import labelmap
from wsss.data.images import measure
from wsss.data.index import Entry, Index
from wsss.data.problems import stop_at
from wsss.datasets.coco_json import Annotation, Instances, Picture
from wsss.errors import DatasetError, MissingError, WsssError
from wsss.progress import progress
from wsss.settings import CocoParams
from wsss.storage.archive import Writer

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
GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # ids below 91 that name no category
IDS = tuple(number for number in range(1, 91) if number not in GAPS)
LABELS: Mapping[int, int] = {number: label for label, number in enumerate(IDS, 1)}  # id -> 1 .. 80
SPLITS = {"train": "train2014", "val": "val2014"}
# MCTformer's and PCSS's train14_small: ids of train2014 from, to, and those left out between them.
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

Job = tuple[str, Picture, list[Annotation]]


def convert(params: CocoParams, dataset: str, archive: Path) -> Index:
    """Return the index, and write the mask of every image into `archive`."""
    _routines()
    problems: list[str] = []
    entries: list[Entry] = []
    with Writer(archive) as writer:
        for split, picture, things in _images(params):
            try:
                mask = f"{picture.name}.png"
                entries.append(_entry(params, split, picture, things, f"{archive}/{mask}"))
                labels = paint(things, picture.size, params.overlap)
                writer.add(mask, labelmap.encode(labels))
            except WsssError as error:
                problems.append(str(error))
        stop_at(problems, dataset)
    return Index(dataset, CLASSES, tuple(entries))


def scan(params: CocoParams, dataset: str) -> tuple[Index, list[str]]:
    """Return the index of all usable images, without masks, and one line for each that is not."""
    entries: list[Entry] = []
    problems: list[str] = []
    try:
        for split, picture, things in _images(params):
            try:
                entries.append(_entry(params, split, picture, things, None))
            except WsssError as error:
                problems.append(str(error))
    except DatasetError as error:
        problems.append(str(error))
    return Index(dataset, CLASSES, tuple(entries)), problems


def _images(params: CocoParams) -> Iterator[Job]:
    """Yield (split, image, annotations) of the images that the index holds."""
    for split, folder in SPLITS.items():
        source = Instances(Path(params.root) / "annotations" / f"instances_{folder}.json")
        check_categories(source.categories, source.path)
        images = source.annotations()
        for picture, things in progress(images, f"reading {folder}", len(source.images)):
            if things or params.images == "all":
                yield split, picture, things


def check_categories(categories: Mapping[int, str], path: Path) -> None:
    """Stop unless the ids and names of a file are those of the 80 things."""
    expected = dict(zip(IDS, CLASSES, strict=True))
    odd = sorted(set(categories.items()) ^ set(expected.items()))
    if odd:
        number = odd[0][0]
        raise DatasetError(
            f"{path}: the category {number} is {categories.get(number, 'absent')!r}, not "
            f"{expected.get(number, 'absent')!r}. Use the instances files of COCO 2014, or describe "
            "your data in data.csv."
        )


def _entry(
    params: CocoParams,
    split: str,
    picture: Picture,
    annotations: Sequence[Annotation],
    mask: str | None,
) -> Entry:
    path = Path(params.root) / SPLITS[split] / picture.file
    size, checksum = measure(path)
    if size != picture.size:
        raise DatasetError(
            f"{path} is {size[1]} x {size[0]} px, not {picture.size[1]} x {picture.size[0]} as its "
            "annotations say. Unpack the official archive again."
        )
    present = sorted({LABELS[annotation["category_id"]] for annotation in annotations})
    labels = tuple(CLASSES[label - 1] for label in present)
    scored = split != "train" or params.seeds == "all" or in_small(picture.name)
    listed = split if scored else "aug"
    return Entry(picture.name, path.as_posix(), mask, labels, listed, size, checksum)


def in_small(name: str) -> bool:
    """Return whether an image of train2014 is one of train14_small, by the number in its name."""
    number = int(name.rsplit("_", 1)[-1])
    return any(first <= number <= last and number not in out for first, last, out in SMALL)


def paint(
    annotations: Sequence[Annotation], size: tuple[int, int], overlap: str
) -> NDArray[np.uint8]:
    """Return the labels (H, W), 0 to 80, of an image's objects; crowds are painted like objects.

    overlap: which object wins a pixel: area, the one whose annotation says the smaller area; first
    or last, in the order of the annotations.
    """
    by_area = overlap == "area"
    ordered = sorted(annotations, key=lambda a: float(a["area"])) if by_area else annotations
    labels = np.zeros(size, np.uint8)
    for annotation in ordered:
        inside = _inside(annotation, size)
        if overlap != "last":
            inside &= labels == 0
        labels[inside] = LABELS[annotation["category_id"]]
    return labels


def _routines() -> Any:
    try:
        from pycocotools import mask  # noqa: PLC0415  # needed for this dataset alone
    except ImportError:
        raise MissingError(
            "pycocotools is not installed, and the masks of coco14 are painted with it. Run "
            "`uv sync --extra coco`."
        ) from None
    return mask


def _inside(annotation: Annotation, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return where an object is (H, W): the union of its polygons, or its run lengths."""
    coco = _routines()
    shape: Any = annotation["segmentation"]
    if not shape:
        return np.zeros(size, bool)
    try:
        if isinstance(shape, list):
            runs = coco.merge(coco.frPyObjects(_polygons(shape), *size))
        else:
            runs = shape if isinstance(shape["counts"], str) else coco.frPyObjects(shape, *size)
        inside = np.asarray(coco.decode(runs), bool)
    except (ValueError, TypeError, KeyError) as error:
        raise DatasetError(
            f"The annotation {annotation.get('id')} of COCO has no polygons or run lengths "
            f"({error}). Unpack annotations_trainval2014.zip again."
        ) from None
    if inside.shape != size:
        raise DatasetError(
            f"The annotation {annotation.get('id')} of COCO is of another size than its image. "
            "Unpack annotations_trainval2014.zip again."
        )
    return inside


def _polygons(shape: list[Any]) -> list[Any]:
    for points in shape:
        if len(points) < 6 or len(points) % 2:  # four numbers would be taken for a box
            raise ValueError(f"a polygon of {len(points)} numbers")
    return shape
