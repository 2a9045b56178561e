"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], right: Collection[str]) -> str:
    """Return a table with a line for each row; right: the heads of columns of numbers."""
    aligned = ["--:" if head in right else "---" for head in heads]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in (heads, aligned, *rows))
