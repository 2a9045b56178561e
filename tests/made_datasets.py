"""Tiny stand-ins for public datasets, in their own layouts: VOC with SBD, COCO, CUB."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from made_data import SIDE, mask, picture
from PIL import Image
from scipy.io import savemat

from wsss.datasets import coco
from wsss.datasets.voc import CLASSES

# id -> split, objects of the annotation, whether the mask is the devkit's or that of SBD
DEVKIT = {
    "2007_000001": ("train", ["cat", "person"], "devkit"),
    "2007_000002": ("train", ["dog"], "devkit"),
    "2007_000003": ("val", ["cat"], "devkit"),
    "2008_000004": ("aug", ["boat", "boat"], "sbd"),
    "2008_000005": ("aug", ["tvmonitor"], "sbd"),
}
TEST = ("2008_000006", "2008_000007")
OBJECT = (
    "<object><name>{}</name><difficult>1</difficult><truncated>1</truncated>"
    "<part><name>head</name></part><actions><walking>1</walking></actions></object>"
)


Images = Mapping[str, tuple[str, list[str], str]]


def every_class() -> Images:
    """Return a devkit with a training image of each class; the masks of half of them are SBD's."""
    found: dict[str, tuple[str, list[str], str]] = {}
    for number, name in enumerate(CLASSES):
        added = ("aug", [name, "person"], "sbd") if number % 2 else ("train", [name], "devkit")
        found[f"200{7 + number % 2}_{number:06d}"] = added
    return found | {f"2009_{number:06d}": ("val", ["cat"], "devkit") for number in range(2)}


def voc(root: Path, images: Images = DEVKIT) -> Path:
    """Write a VOC devkit of five images, two of them from SBD as a folder of masks."""
    for number, (name, (_, objects, source)) in enumerate(images.items()):
        picture(root / "JPEGImages" / f"{name}.jpg", number)
        annotation = root / "Annotations" / f"{name}.xml"
        annotation.parent.mkdir(exist_ok=True)
        content = "".join(OBJECT.format(found) for found in objects)
        annotation.write_text(f"<annotation>{content}</annotation>")
        labels = [CLASSES.index(label) + 1 for label in objects]
        mask(root / "SegmentationClassAug" / f"{name}.png", *labels)
        if source == "devkit":
            mask(root / "SegmentationClass" / f"{name}.png", *labels, 255)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split in ("train", "val"):
        names = [name for name, (where, *_) in images.items() if where == split]
        (lists / f"{split}.txt").write_text("\n".join(names))  # one list ends without a newline
    return root


def voc_test(root: Path) -> Path:
    """Write the images and the list of VOC's test archive beside a devkit."""
    for number, name in enumerate(TEST):
        picture(root / "JPEGImages" / f"{name}.jpg", 90 + number)
    (root / "ImageSets/Segmentation/test.txt").write_text("\n".join(TEST) + "\n")
    return root


def sbd(folder: Path) -> Path:
    """Write the folder `dataset` of SBD: its own split, with an image of VOC's val in its train."""
    (folder / "cls").mkdir(parents=True)
    (folder / "train.txt").write_text("2007_000003\n2008_000004\n")
    (folder / "val.txt").write_text("2007_000001\n2008_000005\n")
    for name in ("2007_000001", "2007_000003", "2008_000004", "2008_000005"):
        labels = np.zeros((SIDE, SIDE), np.uint8)
        labels[:, :9] = 4 if name == "2008_000004" else 20
        content = {"Segmentation": labels, "Boundaries": np.zeros((20, 1)), "CategoriesPresent": 4}
        savemat(folder / "cls" / f"{name}.mat", {"GTcls": content}, do_compression=True)
    return folder


def saliency(folder: Path, size: tuple[int, int] = (SIDE, SIDE)) -> Path:
    """Write a grey saliency map of each training image of the devkit."""
    folder.mkdir(parents=True)
    for number, (name, (split, *_)) in enumerate(DEVKIT.items()):
        if split != "val":
            Image.fromarray(np.full(size, 50 * number, np.uint8)).save(folder / f"{name}.png")
    return folder


def sbd_of(folder: Path, images: Images) -> Path:
    """Write the folder `dataset` of SBD with the images of a devkit that it has masks of."""
    (folder / "cls").mkdir(parents=True)
    names = [name for name, (*_, source) in images.items() if source == "sbd"]
    (folder / "train.txt").write_text("\n".join(names))
    (folder / "val.txt").write_text("")
    for name in names:
        labels = np.zeros((SIDE, SIDE), np.uint8)
        labels[:, :9] = CLASSES.index(images[name][1][0]) + 1
        savemat(folder / "cls" / f"{name}.mat", {"GTcls": {"Segmentation": labels}})
    return folder


def square(left: int, top: int, side: int) -> list[float]:
    """Return a square as a polygon."""
    right, bottom = left + side, top + side
    return [float(v) for v in (left, top, right, top, right, bottom, left, bottom)]


def run_lengths(inside: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return an area (H, W) as uncompressed run lengths: down the columns, zeros first."""
    flat = inside.astype(np.int8).flatten("F")
    turns = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    ends = [0, *turns, flat.size]
    return {"size": list(inside.shape), "counts": np.diff(ends).tolist()}


def coco_objects() -> dict[str, list[dict[str, Any]]]:
    """Return the annotations of each image: polygons, overlaps, a crowd, a hidden and a tiny object."""
    crowd = np.zeros((SIDE, SIDE), bool)
    crowd[2:6, 3:9] = True

    def thing(category: int, shape: Any, area: float, iscrowd: int = 0) -> dict[str, Any]:
        shape = [shape] if isinstance(shape, list) else shape
        return {
            "category_id": category, "segmentation": shape, "area": area, "iscrowd": iscrowd,
        }  # fmt: skip

    return {
        "train2014/9": [
            thing(90, square(8, 8, 4), 16), thing(1, square(4, 4, 16), 256),
            thing(17, run_lengths(crowd), 24, 1), thing(76, [10.2, 10.2, 10.4, 10.2, 10.4, 10.3], 0.01),
        ],
        "train2014/25": [thing(3, square(0, 0, 12), 144), thing(62, square(6, 6, 12), 144)],
        "train2014/30": [],
        "val2014/42": [thing(1, square(4, 4, 8), 64)],
        "val2014/73": [],
    }  # fmt: skip


def coco14(root: Path, every_class: bool = False) -> Path:
    """Write COCO 2014 with five images, two of them without annotations and one of them grey.

    every_class: put a small object of each of the 80 things into one training image.
    """
    objects = coco_objects()
    if every_class:
        objects["train2014/25"] += [
            {"category_id": i, "segmentation": [square(i % 9, i // 9, 1)], "area": 1, "iscrowd": 0}
            for i in coco.IDS
        ]
    categories = [{"id": i, "name": n} for i, n in zip(coco.IDS, coco.CLASSES, strict=True)]
    for folder in ("train2014", "val2014"):
        images, annotations = [], []
        for key in (key for key in objects if key.startswith(folder)):
            number = int(key.rpartition("/")[2])
            name = f"COCO_{folder}_{number:012d}.jpg"
            path = picture(root / folder / name, number)
            if number == 25:
                Image.open(path).convert("L").save(path)
            images.append({"id": number, "file_name": name, "height": SIDE, "width": SIDE})
            annotations += [{**thing, "image_id": number} for thing in objects[key]]
        # Objects of one image do not stand together in the real files either.
        annotations = annotations[::2] + annotations[1::2]
        content = {
            "info": {"description": "Größe [{,"}, "images": images, "licenses": [],
            "annotations": [{**a, "id": number} for number, a in enumerate(annotations, 1)],
            "categories": categories,
        }  # fmt: skip
        path = root / "annotations" / f"instances_{folder}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return root


CUB = {  # path -> split flag, box
    "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg": ("0", "6.0 2.7 12.5 10.4"),
    "001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg": ("1", "0.0 0.0 24.0 24.0"),
    "002.Laysan_Albatross/Laysan_Albatross_0002_1027.jpg": ("1", "13.0 3.0 9.0 20.0"),
    "002.Laysan_Albatross/Laysan_Albatross_0003_1033.jpg": ("0", "1.0 2.0 3.0 4.0"),
}


def cub(root: Path) -> Path:
    """Write CUB-200-2011 with two classes of two images."""
    tables: dict[str, list[str]] = {
        "images": [], "image_class_labels": [], "train_test_split": [], "bounding_boxes": [],
    }  # fmt: skip
    for number, (path, (flag, box)) in enumerate(CUB.items(), 1):
        picture(root / "images" / path, number)
        values = (path, str(int(path[:3])), flag, box)
        for table, value in zip(tables.values(), values, strict=True):
            table.append(f"{number} {value}\n")
    for name, lines in tables.items():
        (root / f"{name}.txt").write_text("".join(lines))
    return root
