"""Tables on a terminal: what does not fit its width is left out and named."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby

from wsss.report.tables.long import IMAGES_SEEN, PARAMETERS
from wsss.report.tables.rows import SOFTWARE

KEPT = ("dataset", "method", "protocol", "stage", "mIoU %")
# The columns that a reader misses least go first, then the others from the right.
FIRST_TO_GO = (
    *SOFTWARE,
    "networks, initial weights",
    "scales at test",
    IMAGES_SEEN,
    PARAMETERS,
    "oracle mIoU %",
    "pre-training",
    "supervision",
    "labelled pixels %",
    "extra knowledge",
)
CELL = re.compile(r"(?<!\\)\|")  # the bar between two cells; a bar inside a cell is escaped


def for_terminal(text: str, behind_pipe: str = "") -> str:
    """Return a text with tables as wide as the terminal it goes to, or as it is for a file or a pipe.

    behind_pipe: the width of a terminal behind a pipe, if there is one.
    """
    if behind_pipe.isdecimal():
        return fitted(text, int(behind_pipe))
    return fitted(text, shutil.get_terminal_size().columns) if sys.stdout.isatty() else text


def fitted(text: str, width: int) -> str:
    """Return a text whose tables in Markdown are at most `width` characters wide, where that is possible.

    Columns that were left out are named below their table. Those of `KEPT` stay.
    """
    parts = groupby(text.splitlines(), key=lambda line: line.startswith("|"))
    lines = [
        line
        for is_table, block in parts
        for line in (_narrowed(list(block), width) if is_table else block)
    ]
    return "\n".join(lines) + "\n" * text.endswith("\n")


def _narrowed(lines: Sequence[str], width: int) -> Iterator[str]:
    """Yield the lines of a table without the columns that do not fit, and a line that names these."""
    rows = [CELL.split(line)[1:-1] for line in lines]
    heads = [cell.strip() for cell in rows[0]]
    left_out = set(_too_many(heads, [len(cell) for cell in rows[0]], width))
    for row in rows:
        yield "|".join(["", *(c for place, c in enumerate(row) if place not in left_out), ""])
    if left_out:
        names = "; ".join(heads[place] for place in sorted(left_out))
        yield from ("", f"Left out for want of width: {names}.")


def _too_many(heads: Sequence[str], widths: Sequence[int], width: int) -> Iterator[int]:
    """Yield the places of the columns that have to go. widths: of the cells with their spaces."""
    too_wide = sum(widths) + len(widths) + 1 - width
    order = [heads.index(name) for name in FIRST_TO_GO if name in heads]
    order += [place for place in reversed(range(len(heads))) if place not in order]
    for place in order:
        if too_wide <= 0:
            return
        if heads[place] not in KEPT:
            too_wide -= widths[place] + 1
            yield place
