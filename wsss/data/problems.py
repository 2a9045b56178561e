"""Problems of a dataset that can be read off its index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wsss.data.index import Entry, Index
from wsss.data.labelmap import MOST_CLASSES
from wsss.errors import DatasetError


def stop_at(problems: Sequence[str], dataset: str) -> None:
    """Raise a `DatasetError` with the first of the problems and the number of others."""
    if not problems:
        return
    others = len(problems) - 1
    more = f" ({others} more: `wsss data check {dataset}` names all)" if others else ""
    raise DatasetError(problems[0] + more)


def fatal(index: Index) -> Iterator[str]:
    """Yield the problems of an index that make a training impossible."""
    if not index.training():
        yield "No image is in the split train. Put images there in its lists or table."
    if not index.split("val"):
        yield "No image is in the split val. Put images there in its lists or table."
    if len(index.classes) > MOST_CLASSES:
        yield f"There are {len(index.classes)} classes; label images hold {MOST_CLASSES}. Use fewer."
    if not index.classes:
        yield "No image has a label. Name the classes of each image."
    trained = {label for entry in index.training() for label in entry.labels}
    for name in index.classes:
        if name not in trained:
            yield f"The class {name!r} has no training image. Add some, or remove the label."
    names: dict[str, Entry] = {}
    for entry in index.images:
        other = names.setdefault(entry.name, entry)
        if other is not entry:
            yield f"Two images are named {entry.name!r} (in {other.split} and {entry.split}). Rename one."


def unscored(index: Index) -> Iterator[str]:
    """Yield a line for each of the splits train and val that has images but no mask to score."""
    for split in ("train", "val"):
        entries = index.split(split)
        if entries and not any(entry.mask for entry in entries):
            yield f"No image of the split {split} has a mask to score it with. Give masks for some."
