"""Predictions in the archive format of the VOC test server."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from wsss.data import labelmap
from wsss.data.index import Entry, load_index
from wsss.errors import ConfigError, DatasetError
from wsss.runs.run import Run
from wsss.storage.archive import Reader
from wsss.storage.files import replacing

# comp6: trained with other data than VOC's, such as ImageNet weights; comp5: with VOC alone.
KINDS = ("masks", "decode")  # archives with predictions of test images
FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"


def voc_test(run: Run, target: Path | None = None, what: str = "masks") -> Path:
    """Write the predictions of VOC's test images in the server's format, and return the path.

    what: the predictor. masks: the segmenter; decode: the method's own decoder.
    """
    if what not in KINDS:
        raise ConfigError(f"{what!r} is not one of {', '.join(KINDS)}.")
    if what == "decode" and not run.spec.decodes:
        raise ConfigError(f"{run.method} has no decoder of its own: leave --what out.")
    if run.dataset != "voc12":
        raise ConfigError(f"{run} is not of voc12, the dataset that the server scores.")
    index = load_index(run.index)
    entries = index.split("test")
    if not entries:
        raise DatasetError(
            f"{run.index} has no test images. Unpack VOC2012test.tar over the devkit and run "
            "`snakemake` again (`wsss data fetch voc12` says where it is from)."
        )
    predictor = "" if what == "masks" else f"{what}-"
    path = (
        target or run.results / f"voc-test-{predictor}{run.method}-{run.protocol}-s{run.seed}.tar"
    )
    pack(entries, Reader(run.path(f"{what}.zip")), len(index.classes), path)
    return path


def pack(entries: Iterable[Entry], masks: Reader, classes: int, path: Path) -> None:
    """Write a tar with fixed dates and one indexed PNG for each image of `entries`.

    Raises:
        DatasetError: a prediction is missing, has another size, colours, or a value above `classes`.
    """
    with replacing(path) as temporary, tarfile.open(temporary, "w") as tar:
        for entry in entries:
            member = tarfile.TarInfo(f"{FOLDER}/{entry.name}.png")
            content = _checked(masks, entry, classes)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def _checked(masks: Reader, entry: Entry, classes: int) -> bytes:
    """Return the bytes of a prediction; raise a `DatasetError` if the server would refuse it."""
    name = f"{entry.name}.png"
    content = masks.read(name)
    labels = labelmap.decode(content, f"{masks.path}/{name}")
    with Image.open(io.BytesIO(content)) as picture:
        indexed = picture.mode == "P" and picture.format == "PNG"
    if not indexed:
        raise DatasetError(f"{masks.path}/{name} is no indexed PNG. Predict again.")
    if labels.shape != entry.size:
        raise DatasetError(
            f"{masks.path}/{name} is {labels.shape[1]} x {labels.shape[0]} px, its image "
            f"{entry.size[1]} x {entry.size[0]}. Predict again."
        )
    if labels.max() > classes:
        odd = int(np.unique(labels)[-1])
        raise DatasetError(
            f"{masks.path}/{name} has the value {odd}, and the server knows 0 to {classes}. "
            "Predict without a class to ignore."
        )
    return content
