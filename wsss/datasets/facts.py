"""Facts about public datasets, to check indexes with: a wrong list changes every number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import yaml
from numpy.typing import NDArray

from wsss.data.index import Entry, Index
from wsss.data.problems import Problem, counted

PATH = Path(__file__).with_suffix(".yaml")
NOT_COMPARABLE = (
    "Numbers are not comparable with published ones; use the official lists if they should be."
)


class Fact(TypedDict):
    """A row of facts.yaml: the splits of a list, its number of images, hashes, images per class."""

    splits: list[str]
    images: int
    names: NotRequired[str]
    labels: NotRequired[str]
    images_per_class: NotRequired[list[int]]


def expected_lists(dataset: str) -> dict[str, Fact]:
    """Return the facts about the lists of a public dataset, by list; none for other datasets."""
    lists: dict[str, Fact] = yaml.safe_load(PATH.read_text(encoding="utf-8")).get(dataset, {})
    return lists


def is_public(dataset: str) -> bool:
    """Return whether a dataset is a public one, with official lists."""
    return bool(expected_lists(dataset))


def names_hash(names: Sequence[str]) -> str:
    """Return the SHA-256 of the sorted names joined by newlines."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def label_matrix(entries: Sequence[Entry], classes: Sequence[str]) -> NDArray[np.uint8]:
    """Return a matrix (images, classes), 1 where an image has a class; images are sorted by name."""
    columns = {name: number for number, name in enumerate(classes)}
    matrix = np.zeros((len(entries), len(classes)), np.uint8)
    for row, entry in zip(matrix, sorted(entries, key=lambda entry: entry.name), strict=True):
        row[[columns[label] for label in entry.labels]] = 1
    return matrix


def labels_hash(matrix: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of a label matrix, one byte per image and class."""
    return hashlib.sha256(np.ascontiguousarray(matrix, np.uint8).tobytes()).hexdigest()


def differences(index: Index) -> Iterator[Problem]:
    """Yield a remark on each list of a public dataset that differs; absent splits are skipped."""
    facts = sorted(expected_lists(index.dataset).values(), key=lambda fact: list(fact["splits"]))
    for splits, group in groupby(facts, key=lambda fact: tuple(fact["splits"])):
        entries = index.split(*splits)
        if all(index.split(split) for split in splits):
            for text in _differences(entries, index, "+".join(splits), list(group)):
                yield Problem("remark", f"{text} {NOT_COMPARABLE}")


def _differences(
    entries: list[Entry], index: Index, where: str, facts: Sequence[Fact]
) -> Iterator[str]:
    """Yield the coarsest difference from the lists in `facts`: size, names or labels."""
    counts = " or ".join(str(fact["images"]) for fact in facts)
    same_size = [fact for fact in facts if fact["images"] == len(entries)]
    if not same_size:
        yield (
            f"The list {where} of {index.dataset} has "
            f"{counted(len(entries), 'image', 'images')}, not {counts}."
        )
        return
    fact = same_size[0]
    if "names" in fact and names_hash([entry.name for entry in entries]) != fact["names"]:
        yield (
            f"The list {where} of {index.dataset} names other images than the official one, though "
            f"as many ({len(entries)})."
        )
    elif "labels" in fact:
        yield from _labels(label_matrix(entries, index.classes), index, where, fact)


def _labels(matrix: NDArray[np.uint8], index: Index, where: str, fact: Fact) -> Iterator[str]:
    if labels_hash(matrix) == fact["labels"]:
        return
    counts = zip(index.classes, matrix.sum(0).tolist(), fact["images_per_class"], strict=True)
    examples = [
        f"{name} {count} instead of {expected}"
        for name, count, expected in counts
        if count != expected
    ]
    example = examples[0] if examples else "some images have the labels of others"
    yield (
        f"The labels of the list {where} of {index.dataset} are not those of the annotations "
        f"({example})."
    )
