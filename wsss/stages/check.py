"""Check a dataset for all problems before any training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsss.data.images import load_mask, probe
from wsss.data.index import Entry, Index, load_index, replaced
from wsss.data.index_parts import TRAINING
from wsss.data.labelmap import misfits
from wsss.data.problems import fatal, unscored
from wsss.datasets import coco, cub, facts, user_table, voc
from wsss.datasets.drawn import stamps
from wsss.errors import WsssError
from wsss.progress import progress
from wsss.runs.inputs import data_archive
from wsss.runs.run import WORK
from wsss.settings import Params


def problems(params: Params, dataset: str) -> Iterator[str]:
    """Yield one line for each problem; no line if the dataset can be trained on and scored."""
    index, unreadable = _scan(params, dataset)
    yield from unreadable
    if index is None or (unreadable and not index.images):
        return  # the checks below would only repeat these problems in other words
    yield from fatal(index)
    yield from unscored(index)
    yield from facts.differences(index)
    yield from _labels(index)
    yield from _copies(index)
    without_void: dict[str, list[bool]] = defaultdict(list)
    for entry in progress(index.images, f"checking {dataset}", len(index.images)):
        yield from _image(entry)
        mask, mask_problems = _mask(entry, index)
        yield from mask_problems
        if mask is not None:
            without_void[entry.split].append(not (mask == index.ignore).any())
    if dataset == "voc12":
        scored = {split: without_void[split] for split in ("train", "val")}
        yield from voc.without_void(scored)


def _scan(params: Params, dataset: str) -> tuple[Index | None, list[str]]:
    """Return the index, or None if it cannot be read, and the problems of reading it."""
    try:
        if dataset in params.data.csv:
            return user_table.scan(params.data.csv[dataset], dataset)
        path, archive = WORK / dataset / "index.json", data_archive(params, dataset)
        if dataset == "voc12":
            existing = archive if archive and archive.is_file() else None
            return voc.scan(params.data.voc12, dataset, existing)
        if dataset == "cub":
            return cub.scan(params.data.cub, dataset)
        if dataset == "coco14" and not path.is_file():
            return coco.scan(params.data.coco14, dataset)
        if dataset == "stamps":
            stamps.photographs(Path(params.data.stamps.root))
        return (load_index(path) if path.is_file() else None), []
    except WsssError as error:
        return None, [str(error)]


def _labels(index: Index) -> Iterator[str]:
    for entry in index.split(*TRAINING):
        if not entry.labels:
            yield f"The training image {entry.name!r} has no label. Name its classes or remove it."


def _copies(index: Index) -> Iterator[str]:
    """Yield images whose bytes are in two splits: scored images must not be trained on."""
    by_checksum: dict[str, Entry] = {}
    for entry in index.images:
        other = by_checksum.setdefault(entry.checksum, entry)
        if other.split != entry.split:
            yield (
                f"The images {other.name!r} ({other.split}) and {entry.name!r} ({entry.split}) "
                "are the same. Keep one of them."
            )


def _image(entry: Entry) -> Iterator[str]:
    try:
        size, odd = probe(entry.path)
    except WsssError as error:
        yield str(error)
        return
    yield from odd
    if size != entry.size:
        yield replaced(entry)


def _mask(entry: Entry, index: Index) -> tuple[NDArray[np.uint8] | None, list[str]]:
    """Return the labels (H, W) of an image, or None if they cannot be read, and their problems."""
    if entry.mask is None:
        return None, []
    try:
        mask = load_mask(entry.mask)
    except WsssError as error:
        return None, [str(error)]
    return mask, list(misfits(mask, entry.size, len(index.classes), entry.mask))
