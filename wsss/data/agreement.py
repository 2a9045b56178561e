"""Whether masks fit the labels of their images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from wsss.data.index_parts import TRAINING
from wsss.data.labelmap import BACKGROUND, IGNORE, MOST_CLASSES, value_misfit
from wsss.data.numbering import (
    UNUSED,
    WORST,
    Flags,
    Masks,
    Numbers,
    numbered,
    numbered_otherwise,
    numbering,
    object_masks,
    odd_values,
    rows_of,
    value_of_all,
)
from wsss.data.problems import Problem, Severity, counted

# Single images may disagree: labels are noisy, and small or hidden objects have no pixel of their own.
# It is an error above these shares of the images (a class that the labels lack, or the mask lacks), or
# above this share, and number, of the images of one class.
SHARE_UNLABELLED, SHARE_UNDRAWN = 0.05, 0.1
SHARE_OF_CLASS, IMAGES_OF_CLASS = 0.2, 3
PUBLIC_FACTOR = (
    3  # nobody corrects the labels of a public dataset, so only replaced masks are an error
)


def disagreements(masks: Masks) -> Iterator[Problem]:
    """Yield one line for each way in which masks are wrong or do not fit the labels of their images."""
    if not masks.entries or not 0 < len(masks.classes) <= MOST_CLASSES:
        return
    # Only training images need labels, so an image of val without any may show all classes.
    trained = np.array([entry.split in TRAINING for entry in masks.entries])
    labelled = masks.where(trained | rows_of(masks.labels))
    value = value_of_all(labelled)
    numbers = None if value else numbering(labelled)
    if value:
        yield Problem("error", object_masks(labelled, value))
    elif numbers is not None:
        yield Problem("error", numbered_otherwise(labelled, numbers))
    used = masks.expected if numbers is None else numbers
    yield from _wrong_values(masks, {*used.tolist(), *([value] if value else ())})
    if not value:
        yield from _differences(labelled, used)


def _wrong_values(masks: Masks, allowed: set[int]) -> Iterator[Problem]:
    """Yield a line for values that are neither background nor 255 nor in `allowed`."""
    if BACKGROUND in allowed:  # the message on the numbers says what is wrong
        return
    odd = odd_values(masks, masks.expected)
    odd[:, [value for value in allowed if value != UNUSED]] = False
    rows = rows_of(odd)
    count, example = int(rows.sum()), masks.entries[int(rows.argmax())].mask
    if count == 1:
        value = int(odd[rows][0].argmax())
        yield Problem("error", value_misfit(value, len(masks.classes), str(example)))
    elif count:
        totals = odd.sum(0)
        worst = [value for value in np.argsort(-totals, kind="stable")[:WORST] if totals[value]]
        yield Problem(
            "error",
            f"{count} of {len(rows)} masks have values that are no class "
            f"({', '.join(f'{value} in {totals[value]}' for value in worst)}; the first is {example}). "
            f"Labels are 0 to {len(masks.classes)} and {IGNORE} to ignore. Renumber the masks, and do "
            "not save them as JPEG.",
        )


def _differences(masks: Masks, numbers: Numbers) -> Iterator[Problem]:
    """Yield a line for masks without a class, and for classes that a mask or its labels lack alone.

    Masks with values that are no class are left out: another line names them. Nothing is said of
    few images of a public dataset, which nobody can correct.
    """
    if BACKGROUND not in numbers:
        masks = masks.where(~rows_of(odd_values(masks, numbers)))
    drawn, labels = masks.drawn(numbers), masks.labels
    is_blank = rows_of(labels) & ~rows_of(drawn)
    candidates = [
        _blank(masks, is_blank & masks.values[:, IGNORE], binary=True),
        _blank(masks, is_blank & ~masks.values[:, IGNORE], binary=False),
        _unlabelled(masks, drawn & ~labels, drawn),
        _undrawn(masks, labels & ~drawn & ~is_blank[:, None]),
    ]
    for problem in candidates:
        if problem and (masks.table or problem.severity == "error"):
            yield problem


def _blank(masks: Masks, rows: Flags, binary: bool) -> Problem | None:
    """Return the problem of labelled images whose mask shows no class; binary: it has 255."""
    count = int(rows.sum())
    if not count:
        return None
    start, advice = "show no class, though their images have labels", "Draw the objects."
    if binary:
        start = "have no value but 0 and 255, though their images have labels"
        advice = "255 means not known. Give the objects of each class its number: "
        advice += f"{numbered(masks.classes)}."
    example = masks.entries[int(rows.argmax())].mask
    limit = SHARE_UNLABELLED * _factor(masks)
    severity: Severity = "error" if count > limit * len(rows) else "remark"
    return Problem(
        severity, f"{count} of {len(rows)} masks {start} (the first is {example}). {advice}"
    )


def _unlabelled(masks: Masks, differs: Flags, drawn: Flags) -> Problem | None:
    """Return the problem of classes that masks show and labels lack, (images, classes)."""
    if not differs.any():
        return None
    first = int(rows_of(differs).argmax())
    name, labels = masks.classes[int(differs[first].argmax())], masks.entries[first].labels
    text = (
        f"{_counts(masks, differs, drawn)} in the mask but not in the labels (such as "
        f"{masks.entries[first].name!r}: {name} in {masks.entries[first].mask}, labels "
        f"{', '.join(labels) or 'none'}). Correct the labels or the numbers in the masks."
    )
    return Problem("error" if _is_much(masks, differs, drawn, SHARE_UNLABELLED) else "remark", text)


def _undrawn(masks: Masks, differs: Flags) -> Problem | None:
    """Return the problem of classes that labels name and masks lack, (images, classes)."""
    if not differs.any():
        return None
    first = int(rows_of(differs).argmax())
    name = masks.classes[int(differs[first].argmax())]
    text = (
        f"{_counts(masks, differs, masks.labels)} in the labels but not in the mask (such as "
        f"{masks.entries[first].name!r}: no {name} in {masks.entries[first].mask}). Correct the "
        "labels or the numbers in the masks."
    )
    return Problem(
        "error" if _is_much(masks, differs, masks.labels, SHARE_UNDRAWN) else "remark", text
    )


def _counts(masks: Masks, differs: Flags, occurs: Flags) -> str:
    """Return in how many images classes differ, and the classes with most such images."""
    counts, totals, rows = differs.sum(0), occurs.sum(0), rows_of(differs)
    worst = [n for n in np.argsort(-counts, kind="stable")[:WORST] if counts[n]]
    classes = ", ".join(f"{masks.classes[n]} in {counts[n]} of {totals[n]}" for n in worst)
    others = int((counts > 0).sum()) - len(worst)
    more = f" and {counted(others, 'other class', 'other classes')}" if others else ""
    return f"{int(rows.sum())} of {len(rows)} images have a class ({classes}{more})"


def _is_much(masks: Masks, differs: Flags, occurs: Flags, limit: float) -> bool:
    """Return whether so many images differ that scores are wrong."""
    counts, rows, factor = differs.sum(0), rows_of(differs), _factor(masks)
    is_bad = (counts >= IMAGES_OF_CLASS) & (counts > SHARE_OF_CLASS * factor * occurs.sum(0))
    is_enough = masks.table is not None or rows.sum() >= IMAGES_OF_CLASS
    return bool(is_bad.any() or (is_enough and rows.mean() > limit * factor))


def _factor(masks: Masks) -> int:
    return 1 if masks.table else PUBLIC_FACTOR
