"""Label images in common formats: a folder of PNGs, a tree like VOC's, or one JSON like COCO's."""

from __future__ import annotations

import importlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsss.data import labelmap
from wsss.data.images import ORIENTATION, encode_image, load_entry, load_entry_mask, read_entry
from wsss.data.index import Entry, Index, load_index
from wsss.errors import ConfigError, MissingError
from wsss.progress import progress
from wsss.runs.calibration import seed_threshold
from wsss.runs.run import Run
from wsss.scores.metrics import erode, seed
from wsss.storage.archive import Reader
from wsss.storage.cam_archive import unpack
from wsss.storage.files import write_bytes, write_json, write_text

# Seeds and pseudo labels of training images; predictions of validation images.
KINDS = ("seed", "pseudo", "masks", "decode")
Labels = NDArray[np.uint8]


def pngs(run: Run, what: str = "pseudo", target: Path | None = None) -> Path:
    """Write an indexed PNG for each image, as `wsss import` reads them, and return the folder."""
    path = target or run.results / f"png-{_stem(run, what)}"
    index = load_index(run.index)
    for entry, labels in progress(_made(run, index, what), "export"):
        write_bytes(path / f"{entry.name}.png", labelmap.encode(labels))
    return path


def voc_tree(run: Run, what: str = "pseudo", target: Path | None = None) -> Path:
    """Write JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/*.txt, and return the folder.

    Beside pseudo labels, the validation images have their true masks, if they have some, so that a
    training script can use the folder as it is. `classes.txt` has the classes in the order of their labels.
    """
    index = load_index(run.index)
    path = target or run.results / f"voc-{_stem(run, what)}"
    if path.exists():
        raise ConfigError(f"{path} exists. Delete it, or name another folder with --out.")
    folder = path.with_name(
        f".{path.name}.part"
    )  # a killed export leaves no folder that seems complete
    shutil.rmtree(folder, ignore_errors=True)
    lists: dict[str, list[str]] = {"train": [], "val": []}
    for entry, labels in progress(_labelled(run, index, what), "export"):
        _save(folder / "JPEGImages" / f"{entry.name}.jpg", _jpeg(entry))
        _save(folder / "SegmentationClass" / f"{entry.name}.png", labelmap.encode(labels))
        lists["val" if entry.split == "val" else "train"].append(entry.name)
    lists["trainval"] = lists["train"] + lists["val"]
    for name, names in lists.items():
        write_text(folder / "ImageSets/Segmentation" / f"{name}.txt", _lines(sorted(names)))
    write_text(folder / "classes.txt", _lines(["background", *index.classes]))
    folder.rename(path)
    return path


def coco(run: Run, what: str = "pseudo", target: Path | None = None) -> Path:
    """Write one JSON with a run-length mask for each class of each image, and return its path.

    Pixels without a class have no annotation; those with label 255 are in `unlabelled` of their image,
    which other readers pass over. Categories are numbered from 1, like labels.

    Raises:
        MissingError: pycocotools is not installed.
    """
    try:
        masks: Any = importlib.import_module("pycocotools.mask")
    except ImportError:
        raise MissingError("pycocotools is not installed. Run `uv sync --extra coco`.") from None
    index = load_index(run.index)
    path = target or run.results / f"coco-{_stem(run, what)}.json"
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for entry, labels in progress(_labelled(run, index, what), "export"):
        size = {"height": labels.shape[0], "width": labels.shape[1]}
        images.append({"id": len(images) + 1, "file_name": Path(entry.path).name, **size})
        if (labels == labelmap.IGNORE).any():
            rle = masks.encode(np.asfortranarray(labels == labelmap.IGNORE, np.uint8))
            images[-1]["unlabelled"] = {"size": rle["size"], "counts": rle["counts"].decode()}
        for label in np.unique(labels[(labels > 0) & (labels != labelmap.IGNORE)]).tolist():
            rle = masks.encode(np.asfortranarray(labels == label, np.uint8))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": label,
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                    "area": int(masks.area(rle)),
                    "bbox": masks.toBbox(rle).tolist(),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": label, "name": name} for label, name in enumerate(index.classes, 1)]
    info = {"description": f"{what} of {run}: one mask for each class of an image, not each object"}
    content = {"info": info, "images": images, "annotations": annotations, "categories": categories}
    write_json(path, content)
    return path


def _stem(run: Run, what: str) -> str:
    if what not in KINDS:
        raise ConfigError(f"{what!r} is not one of {', '.join(KINDS)}.")
    return f"{what}-{run.dataset}-{run.method}-{run.protocol}-s{run.seed}"


def _labelled(run: Run, index: Index, what: str) -> Iterator[tuple[Entry, Labels]]:
    """Yield images with their labels (H, W); with labels of training images also val with its true masks."""
    yield from _made(run, index, what)
    if what in ("seed", "pseudo"):
        yield from ((entry, load_entry_mask(entry)) for entry in index.split("val") if entry.mask)


def _made(run: Run, index: Index, what: str) -> Iterator[tuple[Entry, Labels]]:
    """Yield the images that a run has labels of, in the order of the index, with these labels (H, W)."""
    reader = Reader(run.path("cam.zip" if what == "seed" else f"{what}.zip"))
    suffix = ".npz" if what == "seed" else ".png"
    labelled = {name.removesuffix(suffix) for name in reader.names()}
    threshold = seed_threshold(run) if what == "seed" else 0.0
    for entry in index.images:
        name = f"{entry.name}{suffix}"
        if entry.name in labelled and what == "seed":
            cam = unpack(reader.read(name), entry.name)
            labels = seed(cam.full(), cam.labels, threshold)
            erode_px = run.settings.evaluation.erode_px
            yield entry, erode(labels, erode_px) if erode_px else labels
        elif entry.name in labelled:
            yield entry, labelmap.decode(reader.read(name), f"{reader.path}/{name}")


def _jpeg(entry: Entry) -> bytes:
    """Return an image as a JPEG: the file's bytes if it is an upright RGB JPEG, else re-encoded."""
    content = read_entry(entry)
    with Image.open(io.BytesIO(content)) as picture:
        upright = picture.getexif().get(ORIENTATION, 1) == 1
        is_plain = picture.format == "JPEG" and picture.mode == "RGB" and upright
    return content if is_plain else encode_image(load_entry(entry), "jpg")


def _save(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _lines(names: list[str]) -> str:
    return "".join(f"{name}\n" for name in names)
