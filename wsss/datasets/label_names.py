"""Class names of a table that are mistakes: several labels read as one, and one label spelt twice."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations

from wsss.data.index import Index
from wsss.data.problems import counted
from wsss.settings import CsvParams

NEVER_IN_NAMES = ("|", ";", "\t", "\n", "\uff0c", "\uff1b", "\u3001")  # also the Chinese marks
LIST_MARKS = (*NEVER_IN_NAMES, ",")  # rare in names
OTHER_MARKS = ("/", "+", "&", ":", "_", "-", " ")
RARE_IMAGES = 3  # a spelling mistake is in at most so many images ...
RARE_SHARE = 0.2  # ... and in at most this share of the images of the right spelling
SHORTEST_WORD = 4  # words of fewer letters that differ in one are different words: cat, car
LONG_WORD = 6  # in words of fewer letters, another first letter makes another word: boat, coat
MOST_NAMES = 1000  # more names are compared by nobody: the labels are no classes


def label_problems(index: Index, params: CsvParams) -> Iterator[str]:
    """Yield a line for labels that hold several classes, or for each two spellings of one class.

    A class that the setting `classes` lists is meant as it is written.
    """
    if params.classes:
        return
    counts = Counter(label for entry in index.images for label in entry.labels)
    is_separated = any(len(entry.labels) > 1 for entry in index.images)
    joined = joined_labels(counts, is_separated)
    if joined:
        mark, labels = joined
        others = f" and {counted(len(labels) - 1, 'label', 'labels')} more" if labels[1:] else ""
        advice = (
            f"Write {params.separator!r} between the classes of an image"
            if is_separated
            else f"Set data.csv.{index.dataset}.separator: {json.dumps(mark, ensure_ascii=False)}"
        )
        yield (
            f"{params.table}: the label {labels[0]!r} (image {_example(index, labels[0])!r}){others} "
            f"names several classes, but the separator is {params.separator!r}. {advice}, or list "
            f"all classes in data.csv.{index.dataset}.classes if it is one."
        )
        return
    for rarer, other in near_equal(counts):
        yield (
            f"{params.table}: the classes {rarer!r} ({counted(counts[rarer], 'image', 'images')}, "
            f"such as {_example(index, rarer)!r}) and {other!r} ({counts[other]}) are almost equal. "
            f"Write them the same way, or list all classes in data.csv.{index.dataset}.classes if "
            "they are two."
        )


def _example(index: Index, label: str) -> str:
    return next(entry.name for entry in index.images if label in entry.labels)


def parts(label: str, mark: str) -> list[str]:
    """Return the names in a label that a mark separates."""
    return [name for part in label.split(mark) if (name := part.strip())]


def joined_labels(labels: Iterable[str], is_separated: bool) -> tuple[str, list[str]] | None:
    """Return the mark that joins several names into one label, and these labels; None if none does.

    labels: distinct labels. is_separated: whether the separator of the settings occurs in the table;
    if not, a mark that leaves fewer classes counts too.
    """
    names = set(labels)
    for mark in (*LIST_MARKS, *OTHER_MARKS):
        joined = sorted(label for label in names if len(parts(label, mark)) > 1)
        certain = [label for label in joined if names.issuperset(parts(label, mark))]
        if certain or (joined and not is_separated and _merges(names, mark)):
            return mark, certain or joined
    return None


def _merges(names: set[str], mark: str) -> bool:
    """Return whether the names are fewer if a mark separates them, or as many for a mark of lists."""
    split = Counter(part for name in names for part in set(parts(name, mark)))
    if mark in NEVER_IN_NAMES:
        return True
    if max(split.values(), default=0) < 2:
        return False
    return len(split) < len(names) or (mark in LIST_MARKS and len(split) == len(names))


def near_equal(counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield pairs (rarer, more frequent) of names that are one name in two spellings.

    counts: the number of images of each name. Equal but for case, blanks, hyphens or a plural; or
    one letter differs in a word, and one of the names is rare.
    """
    names = sorted(counts)[:MOST_NAMES]
    words = {name: _words(name) for name in names}
    for first, second in combinations(names, 2):
        rarer, other = sorted((first, second), key=lambda name: counts[name])
        if _same(words[first], words[second]) or (
            _is_rare(counts[rarer], counts[other]) and _misspelt(words[first], words[second])
        ):
            yield rarer, other


def _is_rare(count: int, other: int) -> bool:
    return count <= min(RARE_IMAGES, max(1, RARE_SHARE * other)) and other > 2 * count


def _words(name: str) -> tuple[str, ...]:
    """Return the words of a name without case, in one form of Unicode."""
    text = unicodedata.normalize("NFKC", name).casefold()
    return tuple(re.split(r"[\s_\-]+", text.strip()))


def _same(first: Sequence[str], second: Sequence[str]) -> bool:
    whole = ["".join(words) for words in (first, second)]
    return whole[0] == whole[1] or whole[0] in _plurals(whole[1]) or whole[1] in _plurals(whole[0])


def _plurals(word: str) -> set[str]:
    """Return the plurals of a word as English spells them."""
    if len(word) < 3 or not word[-1].isalpha():
        return set()
    plurals = {f"{word}s"}
    if word.endswith(("s", "x", "z", "ch", "sh", "o")):
        plurals = {f"{word}es", f"{word}s"} if word.endswith("o") else {f"{word}es"}
    if word.endswith("y"):
        plurals.add(f"{word[:-1]}ies")
    return plurals


def _misspelt(first: Sequence[str], second: Sequence[str]) -> bool:
    """Return whether one word of two names differs, and only in one letter."""
    if len(first) != len(second):
        return False
    different = [pair for pair in zip(first, second, strict=True) if pair[0] != pair[1]]
    return len(different) == 1 and _one_letter(*different[0])


def _one_letter(first: str, second: str) -> bool:
    """Return whether two words differ by one letter: another, a missing one, or two exchanged ones."""
    short, long = sorted((first, second), key=len)
    if len(long) < SHORTEST_WORD or len(long) - len(short) > 1:
        return False
    same = next(
        (n for n, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short)
    )
    if not same and len(long) < LONG_WORD:
        return False
    rest_short, rest_long = short[same:], long[same:]
    if not (rest_short[:2] + rest_long[:2]).isalpha():  # numbers tell names apart: type1, type2
        return False
    if len(short) < len(long):
        return rest_short == rest_long[1:]
    exchanged = rest_long[1::-1] + rest_long[2:]
    return rest_short[1:] == rest_long[1:] or rest_short == exchanged
