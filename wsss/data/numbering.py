"""Which numbers masks give to the classes: those of the index, others, or one for all objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from wsss.data.index import Entry, Index
from wsss.data.labelmap import BACKGROUND, IGNORE

Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]

VALUES = 256
UNUSED = -1  # the number of a class that no mask shows
# Another numbering must explain most of the images that it concerns, and clearly more than 1, 2, ...
SHARE_EXPLAINED, SHARE_GAINED, IMAGES_GAINED = 0.6, 0.2, 2
CONSTANT_SHARE = 0.9  # a value in this share of the masks may be the background
WORST = 3  # classes or values in a message


@dataclass(frozen=True)
class Masks:
    """Images with a mask.

    labels: (images, classes), the classes of each image. values: (images, 256), the values of its
    mask. table: the setting of a user's table, such as data.csv.birds; None for other datasets, which
    nobody can correct.
    """

    entries: tuple[Entry, ...]
    classes: tuple[str, ...]
    labels: Flags
    values: Flags
    table: str | None

    @property
    def expected(self) -> Numbers:
        """Return the numbers (classes,) that masks must have: 1, 2, ..."""
        return np.arange(1, len(self.classes) + 1)

    def drawn(self, numbers: Numbers) -> Flags:
        """Return which classes (images, classes) the masks show if class k has the value numbers[k]."""
        return np.where(numbers == UNUSED, False, self.values[:, numbers])

    def where(self, rows: Flags) -> Masks:
        """Return the images of these rows (images,)."""
        entries = tuple(entry for entry, row in zip(self.entries, rows, strict=True) if row)
        return Masks(entries, self.classes, self.labels[rows], self.values[rows], self.table)


def masks_of(index: Index, masked: Sequence[tuple[Entry, Flags]], table: str | None) -> Masks:
    """Return the images of an index that have a mask; masked: each with the values (256,) of its mask."""
    labels = np.zeros((len(masked), len(index.classes)), bool)
    values = np.zeros((len(masked), VALUES), bool)
    columns = {name: number for number, name in enumerate(index.classes)}
    for row, (entry, flags) in enumerate(masked):
        labels[row, [columns[label] for label in entry.labels]] = True
        values[row] = flags
    return Masks(tuple(entry for entry, _ in masked), index.classes, labels, values, table)


def rows_of(flags: Flags) -> Flags:
    """Return which rows of flags (rows, columns) have one that is true."""
    return np.asarray(flags.any(1))


def numbering(masks: Masks) -> Numbers | None:
    """Return the values (classes,) that fit the labels clearly better than 1, 2, ...; None if none do.

    The assignment pairs classes and values that occur in the same images.
    """
    overlap = _overlap(masks)
    weights = overlap.copy()
    weights[masks.expected - 1, masks.expected] += 1e-6  # of equal assignments, the expected one
    numbers = linear_sum_assignment(weights, maximize=True)[1].astype(np.int64)
    numbers[overlap[masks.expected - 1, numbers] == 0] = UNUSED
    moved = (numbers != masks.expected) & (numbers != UNUSED)
    if not moved.any():
        return None
    shown = masks.labels | masks.drawn(masks.expected) | masks.drawn(numbers)
    concerned = masks.where(rows_of(shown[:, moved]))
    fitting = _fits(concerned, numbers)
    gain = int(fitting.sum()) - int(_fits(concerned, masks.expected).sum())
    is_clear = gain >= max(IMAGES_GAINED, SHARE_GAINED * len(fitting))
    return numbers if is_clear and fitting.mean() >= SHARE_EXPLAINED else None


def _overlap(masks: Masks) -> NDArray[np.float64]:
    """Return the share (classes, 256) of images with a class and a value among those with one of them."""
    # As floats: products of integers take minutes for COCO.
    labels, values = masks.labels.astype(np.float32), masks.values.astype(np.float32)
    shared = (labels.T @ values).astype(np.float64)
    either = labels.sum(0)[:, None] + values.sum(0)[None] - shared
    overlap = np.asarray(shared / np.maximum(either, 1))
    overlap[:, IGNORE] = 0
    if _is_ground(masks):
        overlap[:, BACKGROUND] = 0
    return overlap


def _is_ground(masks: Masks) -> bool:
    """Return whether the value 0 is in nearly all masks, as a background is."""
    return bool(masks.values[:, BACKGROUND].mean() >= CONSTANT_SHARE)


def _fits(masks: Masks, numbers: Numbers) -> Flags:
    """Return whether the mask of each image has exactly the classes of its labels."""
    free = {BACKGROUND, IGNORE}
    if BACKGROUND in numbers:  # then another value is the background
        free |= set(np.flatnonzero(masks.values.mean(0) >= CONSTANT_SHARE).tolist())
    others = [v for v in range(VALUES) if v not in free | set(numbers.tolist())]
    is_same = (masks.drawn(numbers) == masks.labels).all(1)
    return np.asarray(is_same & ~rows_of(masks.values[:, others]))


def numbered_otherwise(masks: Masks, numbers: Numbers) -> str:
    """Return the message for masks in which the classes have other numbers."""
    counts = [int(_fits(masks, order).sum()) for order in (numbers, masks.expected)]
    fit = f"so {counts[0]} of {len(masks.entries)} masks fit their labels, now {counts[1]}"
    assigned = numbers[numbers != UNUSED]
    if ((assigned > 0) & (assigned <= len(numbers))).all():
        order = yaml.safe_dump(
            _order(masks.classes, numbers), default_flow_style=True, allow_unicode=True, width=10**6
        ).strip()
        start = "The masks number the classes in another order"
        if masks.table:
            return f"{start} ({fit}). Set {masks.table}.classes: {order}"
        return f"{start}, {order} ({fit}). Unpack the masks again, or renumber them."
    shifts = set((numbers - masks.expected)[numbers != UNUSED].tolist())
    if len(shifts) == 1 and len(assigned) > 1:
        (shift,) = shifts
        way = f"Add {-shift} to" if shift < 0 else f"Subtract {shift} from"
        return (
            f"The masks number the classes from {1 + shift} on instead of 1 ({fit}). {way} each "
            f"number; {BACKGROUND} is background, {IGNORE} not known."
        )
    pairs = [(n, v) for n, v in zip(masks.expected, numbers, strict=True) if v not in (n, UNUSED)]
    changes = ", ".join(f"{v} to {n} ({masks.classes[n - 1]})" for n, v in pairs)
    return f"The masks have other numbers than the classes ({fit}). Change {changes}."


def _order(classes: Sequence[str], numbers: Numbers) -> list[str]:
    """Return the classes in the order of their numbers; unused ones fill the gaps."""
    placed = {int(n): name for name, n in zip(classes, numbers, strict=True) if n != UNUSED}
    unused = (name for name, n in zip(classes, numbers, strict=True) if n == UNUSED)
    return [placed.get(number) or next(unused) for number in range(1, len(classes) + 1)]


def value_of_all(masks: Masks) -> int | None:
    """Return the one value of all objects, whatever their class; None if there is no such value."""
    objects = masks.values.copy()
    objects[:, [BACKGROUND, IGNORE]] = False
    drawn = masks.where(rows_of(objects))
    (occurring,) = np.nonzero(objects.any(0))
    if len(occurring) != 1 or drawn.labels.any(0).sum() < 2 or not _is_ground(drawn):
        return None
    value = int(occurring[0])
    lacking = [name for entry in drawn.entries for name in _others(entry, value, masks.classes)]
    return value if len(lacking) >= IMAGES_GAINED else None


def _others(entry: Entry, value: int, classes: Sequence[str]) -> tuple[str, ...]:
    """Return one label of an image that does not have the class of `value`; none if it has."""
    name = classes[value - 1] if value <= len(classes) else None
    return () if name in entry.labels else entry.labels[:1]


def object_masks(masks: Masks, value: int) -> str:
    """Return the message for masks that have one value for the objects of all classes."""
    return (
        f"The masks have the one value {value} for the objects of all classes. Give the objects of "
        f"each class its number: {numbered(masks.classes)}."
    )


def numbered(classes: Sequence[str]) -> str:
    """Return the first classes with their numbers."""
    listed = [f"{number} {name}" for number, name in enumerate(classes, 1)]
    return ", ".join(listed[:WORST]) + (" and so on" if len(listed) > WORST else "")


def odd_values(masks: Masks, numbers: Numbers) -> Flags:
    """Return the values (images, 256) of the masks that are no class, background or 255."""
    odd = masks.values.copy()
    odd[:, [BACKGROUND, IGNORE, *(value for value in numbers.tolist() if value != UNUSED)]] = False
    return odd
