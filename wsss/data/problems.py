"""Problems of a dataset: their type, those that can be read off its index, and what it holds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from wsss.data.index import SPLITS, Entry, Index
from wsss.data.labelmap import MOST_CLASSES
from wsss.errors import DatasetError

Severity = Literal["error", "remark"]

LISTED_PLACES = 5  # rows or images that are named beside the first one that has a problem
LISTED_CLASSES = 8  # a longer list of classes is shortened to its most and least frequent ones


@dataclass(frozen=True)
class Problem:
    """A problem of a dataset.

    severity: an error makes training impossible or a score wrong; a remark may be intended.
    text: one line that names the file, row or class and says what to do.
    """

    severity: Severity
    text: str


class Causes:
    """Collects the problems of single images and rows: one line for each cause."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = {}
        self._texts: dict[str, str] = {}

    def add(self, text: str, place: str, *words: str) -> None:
        """Add a problem.

        place: the row or image that has it. words: further words of `text` that are of this place alone.
        """
        cause = text
        for word in sorted({place, *words} - {""}, key=len, reverse=True):
            cause = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", "", cause)
        cause = re.sub(r"\d+", "0", cause)
        self._texts.setdefault(cause, text)
        self._places.setdefault(cause, []).append(place)

    def __bool__(self) -> bool:
        return bool(self._texts)

    def lines(self) -> list[str]:
        """Return the first problem of each cause, with the places of the others."""
        return [self._texts[cause] + _others(self._places[cause][1:]) for cause in self._places]


def _others(places: Sequence[str]) -> str:
    if not places:
        return ""
    return f" The same holds for {len(places)} more: {shortened(places, LISTED_PLACES)}."


def errors(problems: Iterable[Problem]) -> list[str]:
    """Return the texts of the errors among the problems."""
    return [problem.text for problem in problems if problem.severity == "error"]


def stop_at(problems: Sequence[str], dataset: str) -> None:
    """Raise a `DatasetError` with the first of the problems and the number of others."""
    if not problems:
        return
    others = len(problems) - 1
    more = f" ({others} more: `wsss data check {dataset}` names all)" if others else ""
    raise DatasetError(problems[0] + more)


def index_problems(
    index: Index, public: bool = False, is_painted: bool = True
) -> Iterator[Problem]:
    """Yield the problems that can be read off an index.

    public: it is a public dataset, whose classes are fixed and whose train and val have all masks.
    is_painted: its masks are not yet to be made by `wsss data prepare`.
    """
    for text in _impossible(index):
        yield Problem("error", text)
    yield from _untrained(index, public)
    if is_painted:
        yield from _unmasked(index, public)


def _impossible(index: Index) -> Iterator[str]:
    """Yield the problems of an index that make a training impossible."""
    if not index.training():
        yield "No image is in the split train. Put images there in its lists or table."
    if not index.split("val"):
        yield "No image is in the split val. Put images there in its lists or table."
    if len(index.classes) > MOST_CLASSES:
        yield f"There are {len(index.classes)} classes; label images hold {MOST_CLASSES}. Use fewer."
    if not index.classes:
        yield "No image has a label. Name the classes of each image."
    names: dict[str, Entry] = {}
    for entry in index.images:
        other = names.setdefault(entry.name, entry)
        if other is not entry:
            yield f"Two images are named {entry.name!r} (in {other.split} and {entry.split}). Rename one."


def _untrained(index: Index, public: bool) -> Iterator[Problem]:
    """Yield the classes without a training image; a public dataset may be a part of the whole."""
    counts = training_images(index)
    untrained = [name for name in index.classes if not counts[name]]
    if not public:
        for name in untrained:
            yield Problem(
                "error", f"The class {name!r} has no training image. Add some, or remove the class."
            )
    elif untrained and index.training():
        yield Problem(
            "remark",
            f"{len(untrained)} of {len(index.classes)} classes have no training image "
            f"({shortened(untrained)}), so they cannot be learned. Use the whole dataset, or "
            "describe your data in data.csv.",
        )


def _unmasked(index: Index, public: bool) -> Iterator[Problem]:
    """Yield a problem for each of the splits train and val that lacks masks to score it with."""
    for split in ("train", "val"):
        entries = index.split(split)
        unmasked = [entry for entry in entries if not entry.mask]
        if not unmasked or any(entry.boxes for entry in entries):
            continue
        if len(unmasked) == len(entries):
            yield Problem(
                "remark",
                f"No image of the split {split} has a mask to score it with. Give masks for some.",
            )
        elif public or split == "val":
            advice = "Unpack the masks again." if public else "Give them masks, if you have some."
            yield Problem(
                "error" if public else "remark",
                f"{len(unmasked)} of {len(entries)} images of the split {split} have no mask (the "
                f"first is {unmasked[0].name!r}), so scores are of the others alone. {advice}",
            )


def training_images(index: Index) -> Counter[str]:
    """Return the number of training images of each class."""
    return Counter(label for entry in index.training() for label in set(entry.labels))


def summary(index: Index, is_painted: bool = True) -> str:
    """Return what a dataset holds in one line: classes with their training images, splits, masks.

    is_painted: its masks are not yet to be made by `wsss data prepare`.
    """
    counts = training_images(index)
    classes = sorted(index.classes, key=lambda name: -counts[name])  # stable
    listed = [f"{name} {counts[name]}" for name in index.classes]
    if len(listed) > LISTED_CLASSES:
        frequent = [f"{name} {counts[name]}" for name in classes[: LISTED_CLASSES // 2]]
        listed = [*frequent, "...", *(f"{name} {counts[name]}" for name in classes[-2:])]
    parts = [f"{counted(len(index.classes), 'class', 'classes')} ({', '.join(listed)})"]
    parts += [f"{len(images)} {split}" for split in SPLITS if (images := index.split(split))]
    masks = sum(entry.mask is not None for entry in index.images)
    boxes = sum(len(entry.boxes) for entry in index.images)
    if not is_painted:
        parts.append("masks are painted by `wsss data prepare`")
    elif masks or not boxes:
        parts.append(counted(masks, "mask", "masks"))
    if boxes:
        parts.append(counted(boxes, "box", "boxes"))
    return ", ".join(parts)


def counted(count: int, singular: str, plural: str) -> str:
    """Return a number with its noun."""
    return f"{count or 'no'} {singular if count == 1 else plural}"


def shortened(names: Sequence[str], most: int = 3) -> str:
    """Return the first names, separated by commas, and how many more there are."""
    others = len(names) - most
    return ", ".join(names[:most]) + (f" and {others} more" if others > 0 else "")
