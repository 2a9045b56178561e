"""Tables for a paper: booktabs, ready to be pasted, with every name escaped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

LATEX = {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{
        "±": r"$\pm$",
        "†": r"$^\dagger$",
        "‡": r"$^\ddagger$",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': "''",
    },
}
MARKS = re.compile("[^A-Za-z0-9]+")
PACKAGES = r"% Needs \usepackage{booktabs,graphicx}."


def latex_text(text: str) -> str:
    """Return text on one line, with the special characters of LaTeX escaped."""
    return "".join(LATEX.get(mark, mark) for mark in " ".join(text.split()))


def environment(
    heads: Sequence[str],
    lines: Sequence[Sequence[str]],
    numbers: Sequence[bool],
    caption: str,
    label: str,
    groups: Sequence[tuple[str, int]] = (),
    above: Mapping[int, str] | None = None,
) -> str:
    """Return a table as wide as the text; `numbers` marks the right-aligned columns.

    label: the name behind `tab:` for references; marks other than letters and digits become dashes.
    groups: names above the heads, each with the number of its columns; "" for no name. above: words
    that stand, below a rule, above the lines with these numbers.
    """
    kinds = "".join("r" if is_number else "l" for is_number in numbers)
    rows = [" & ".join(map(latex_text, line)) + r" \\" for line in (heads, *lines)]
    parts = [
        PACKAGES,
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{latex_text(caption)}}}",
        rf"  \label{{tab:{MARKS.sub('-', label).strip('-')}}}",
        r"  \resizebox{\linewidth}{!}{%",
        rf"  \begin{{tabular}}{{{kinds}}}",
        r"    \toprule",
        *(f"    {line}" for line in _spanning(groups)),
        f"    {rows[0]}",
        r"    \midrule",
        *(f"    {line}" for line in _ruled(rows[1:], above or {}, len(heads))),
        r"    \bottomrule",
        r"  \end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(parts) + "\n"


def _ruled(lines: Sequence[str], above: Mapping[int, str], columns: int) -> Iterator[str]:
    """Yield the lines, and before some of them a rule and words over all columns."""
    for place, line in enumerate(lines):
        if place in above:
            words = latex_text(above[place])
            yield r"\midrule"
            yield rf"\multicolumn{{{columns}}}{{l}}{{\emph{{{words}}}}} \\"
        yield line


def _spanning(groups: Sequence[tuple[str, int]]) -> list[str]:
    """Return the line with the names of the groups, and the rules below them."""
    if not groups:
        return []
    cells, rules, first = [], [], 1
    for name, count in groups:
        cells.append(rf"\multicolumn{{{count}}}{{c}}{{{latex_text(name)}}}")
        if name:
            rules.append(rf"\cmidrule(lr){{{first}-{first + count - 1}}}")
        first += count
    return [" & ".join(cells) + r" \\", " ".join(rules)]
