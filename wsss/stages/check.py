"""Check a dataset for all problems before any training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsss.data.agreement import disagreements
from wsss.data.images import load_mask, probe
from wsss.data.index import Entry, Index, load_index, replaced
from wsss.data.index_parts import TRAINING
from wsss.data.labelmap import IGNORE, misfits
from wsss.data.numbering import masks_of
from wsss.data.problems import Causes, Problem, Severity, index_problems, summary
from wsss.data.raw_files import RawFiles
from wsss.datasets import coco, cub, user_table, voc
from wsss.datasets.drawn import stamps
from wsss.datasets.facts import differences, is_public
from wsss.datasets.label_names import label_problems
from wsss.datasets.saliency_maps import with_maps
from wsss.errors import WsssError, one_line
from wsss.progress import progress
from wsss.runs.inputs import data_archive, data_section, saliency_key
from wsss.runs.run import WORK
from wsss.settings import Params
from wsss.settings.data import saliency_folder
from wsss.settings.resolve import check_dataset


@dataclass(frozen=True)
class Source:
    """A dataset as its files describe it.

    index: None if it cannot be read, or if a drawn dataset is not prepared. unreadable: the problems
    of reading it. misnamed: the problems of its class names, after which masks mean nothing.
    is_painted: its masks are not yet to be made by `wsss data prepare`.
    """

    index: Index | None
    unreadable: Sequence[str] = ()
    misnamed: Sequence[str] = ()
    is_painted: bool = True


def check(params: Params, dataset: str, echo: Callable[[str], object]) -> Counter[Severity]:
    """Print a line for each problem of a dataset and one on what it holds; return their numbers."""
    check_dataset(params, dataset)
    source = _scan(params, dataset)
    counts: Counter[Severity] = Counter()
    for problem in _problems(params, dataset, source):
        counts[problem.severity] += 1
        echo(one_line(f"{dataset}: {problem.severity}: {problem.text}"))
    if source.index is None and not source.unreadable:
        echo(f"{dataset}: not drawn yet; `wsss data prepare {dataset}` draws it")
    elif source.index and source.index.images:
        echo(one_line(f"{dataset}: {summary(source.index, source.is_painted)}"))
    return counts


def problems(params: Params, dataset: str) -> Iterator[Problem]:
    """Yield the problems of a dataset; none if it can be trained on and scored."""
    yield from _problems(params, dataset, _scan(params, dataset))


def _problems(params: Params, dataset: str, source: Source) -> Iterator[Problem]:
    index = source.index
    yield from _errors([*source.unreadable, *source.misnamed])
    if index is None or (source.unreadable and not index.images):
        return  # the checks below would only repeat these problems in other words
    yield from index_problems(index, is_public(dataset), source.is_painted)
    yield from differences(index)
    if source.is_painted:
        yield from _errors(_untaught(params, index))
    yield from _errors(_labels(index))
    yield from _errors(_copies(index))
    if folder := saliency_folder(data_section(params, dataset)):
        key = saliency_key(params, dataset)
        yield from _errors(with_maps(index, folder, key, RawFiles())[1])
    masked: list[tuple[Entry, NDArray[np.bool_]]] = []
    causes = Causes()
    for entry in progress(index.images, f"checking {dataset}", len(index.images)):
        values, mask_problems = _mask(entry, index)
        for text in (*_image(entry), *mask_problems):
            causes.add(text, entry.name, entry.path, entry.mask or "")
        if values is not None:
            masked.append((entry, values))
    yield from _errors(causes.lines())
    if dataset == "voc12":
        yield from _errors(voc.without_void(_lacking_void(masked)))
    if not source.misnamed:
        table = f"data.csv.{dataset}" if dataset in params.data.csv else None
        yield from disagreements(masks_of(index, masked, table))


def _errors(texts: Iterable[str]) -> Iterator[Problem]:
    for text in texts:
        yield Problem("error", text)


def _lacking_void(masked: Sequence[tuple[Entry, NDArray[np.bool_]]]) -> dict[str, list[bool]]:
    """Return whether each mask of train and val lacks the value 255."""
    return {
        split: [not values[IGNORE] for entry, values in masked if entry.split == split]
        for split in ("train", "val")
    }


def _scan(params: Params, dataset: str) -> Source:
    """Read a dataset from its files, or from its index if it was drawn or painted."""
    try:
        if dataset in params.data.csv:
            section = params.data.csv[dataset]
            index, unreadable = user_table.scan(section, dataset)
            return Source(index, unreadable, list(label_problems(index, section)))
        path, archive = WORK / dataset / "index.json", data_archive(params, dataset)
        if dataset == "voc12":
            existing = archive if archive and archive.is_file() else None
            return Source(*voc.scan(params.data.voc12, dataset, existing))
        if dataset == "cub":
            return Source(*cub.scan(params.data.cub, dataset))
        if dataset == "coco14" and not path.is_file():
            return Source(*coco.scan(params.data.coco14, dataset), is_painted=False)
        if dataset == "stamps":
            stamps.all_photographs(params.data.stamps)
        return Source(load_index(path) if path.is_file() else None)
    except WsssError as error:
        return Source(None, [str(error)])


def _untaught(params: Params, index: Index) -> Iterator[str]:
    """Yield the methods that shall run here and learn from true masks, if training images lack one."""
    unmasked = [entry.name for entry in index.training() if not entry.mask]
    if index.dataset not in params.datasets:
        return
    for method in params.run_methods if unmasked else ():
        if params.spec(method).learns_masks:
            yield (
                f"The method {method} learns from the masks of all training images, and {len(unmasked)} have "
                f"none (the first is {unmasked[0]!r}). Give them masks, or leave {method} out of `methods`."
            )


def _labels(index: Index) -> list[str]:
    causes = Causes()
    for entry in index.split(*TRAINING):
        if not entry.labels:
            text = f"The training image {entry.name!r} has no label. Name its classes or remove it."
            causes.add(text, entry.name)
    return causes.lines()


def _copies(index: Index) -> list[str]:
    """Return a line on images whose bytes are in two splits: scored images must not be trained on."""
    causes = Causes()
    by_checksum: dict[str, Entry] = {}
    for entry in index.images:
        other = by_checksum.setdefault(entry.checksum, entry)
        if other.split != entry.split:
            text = (
                f"The images {other.name!r} ({other.split}) and {entry.name!r} ({entry.split}) "
                "are the same. Keep one of them."
            )
            causes.add(text, entry.name, other.name)
    return causes.lines()


def _image(entry: Entry) -> Iterator[str]:
    try:
        size, odd = probe(entry.path)
    except WsssError as error:
        yield str(error)
        return
    yield from odd
    if size != entry.size:
        yield replaced(entry)


def _mask(entry: Entry, index: Index) -> tuple[NDArray[np.bool_] | None, list[str]]:
    """Return which values (256,) the mask of an image has, and its problems.

    There are no values without a mask, or if the mask cannot be that of the image.
    """
    if entry.mask is None:
        return None, []
    try:
        mask = load_mask(entry.mask)
    except WsssError as error:
        return None, [str(error)]
    if mask.shape != entry.size:
        return None, list(misfits(mask, entry.size, len(index.classes), entry.mask))
    return np.bincount(mask.ravel(), minlength=256) > 0, []
