"""What is known of public datasets, and whether an index agrees: a wrong list changes every number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from wsss.data.index import Entry, Index

PATH = Path(__file__).with_suffix(".yaml")
Fact = Mapping[str, Any]


def known(dataset: str) -> dict[str, Fact]:
    """Return the lists of a public dataset by name; nothing for others."""
    found: dict[str, Fact] = yaml.safe_load(PATH.read_text(encoding="utf-8")).get(dataset, {})
    return found


def names_hash(names: Sequence[str]) -> str:
    """Return the SHA-256 of the sorted names joined by newlines."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def label_matrix(entries: Sequence[Entry], classes: Sequence[str]) -> NDArray[np.uint8]:
    """Return which image has which class (images, classes), images in the order of their names."""
    place = {name: number for number, name in enumerate(classes)}
    matrix = np.zeros((len(entries), len(classes)), np.uint8)
    for row, entry in zip(matrix, sorted(entries, key=lambda entry: entry.name), strict=True):
        row[[place[label] for label in entry.labels]] = 1
    return matrix


def labels_hash(matrix: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of a label matrix, one byte per image and class."""
    return hashlib.sha256(np.ascontiguousarray(matrix, np.uint8).tobytes()).hexdigest()


def unlike(index: Index) -> Iterator[str]:
    """Yield a line for each list of a public dataset that is not as known; absent splits are left out."""
    facts = sorted(known(index.dataset).values(), key=lambda fact: list(fact["splits"]))
    for splits, group in groupby(facts, key=lambda fact: tuple(fact["splits"])):
        entries = index.split(*splits)
        if all(index.split(split) for split in splits):
            yield from _unlike(entries, index, "+".join(splits), list(group))


def _unlike(entries: list[Entry], index: Index, where: str, facts: Sequence[Fact]) -> Iterator[str]:
    """Yield what keeps `entries` from being one of the lists in `facts`, the coarsest difference."""
    counts = " or ".join(str(fact["images"]) for fact in facts)
    alike = [fact for fact in facts if fact["images"] == len(entries)]
    if not alike:
        yield (
            f"The list {where} of {index.dataset} has {len(entries)} images, not {counts}. Use the "
            "official lists, or expect other numbers than published ones."
        )
        return
    fact = alike[0]
    if "names" in fact and names_hash([entry.name for entry in entries]) != fact["names"]:
        yield (
            f"The list {where} of {index.dataset} names other images than the official one, though "
            f"as many ({len(entries)}). Unpack the official archive again."
        )
    elif "labels" in fact:
        yield from _labels(label_matrix(entries, index.classes), index, where, fact)


def _labels(matrix: NDArray[np.uint8], index: Index, where: str, fact: Fact) -> Iterator[str]:
    if labels_hash(matrix) == fact["labels"]:
        return
    counts = zip(index.classes, matrix.sum(0).tolist(), fact["images_per_class"], strict=True)
    differ = [
        f"{name} {found} instead of {right}" for name, found, right in counts if found != right
    ]
    seen = differ[0] if differ else "some images have each other's"
    yield (
        f"The labels of the list {where} of {index.dataset} are not those of the annotations "
        f"({seen}). Unpack the official archive again."
    )
