"""Write docs/parity.md from the comparisons that the golden tests noted (`make parity`)."""

import json
import re
import sys
from pathlib import Path
from typing import Any

INTRODUCTION = """# Parity with the published code

Every comparison with numbers that the authors' code computed, and the largest difference found.
Weights come in the published key layout through the checkpoint loader. Made by `make parity`.
"""


SMALL = 1e-3
NUMBERS = re.compile(r"(\S+) \(largest value (\S+)\)")


def main(notes: Path, page: Path) -> None:
    """Turn the lines of `notes` into a page with a table per method, and one over all."""
    rows = [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines()]
    methods = {
        method: {row["case"]: row for row in rows if row["method"] == method}
        for method in sorted({row["method"] for row in rows})
    }
    lines = [INTRODUCTION, *summary(methods), ""]
    for method, own in methods.items():
        lines += [f"## {method}: {len(own)} comparisons", ""]
        lines += ["| case | largest difference | tolerance |", "|---|---|---|"]
        lines += [
            f"| {case} | {own[case]['difference']} | {own[case]['tolerance']} |"
            for case in sorted(own)
        ]
        lines += [""]
    page.write_text("\n".join(lines), encoding="utf-8")


def summary(methods: dict[str, dict[str, Any]]) -> list[str]:
    """Return how many comparisons each method has, and how near half and nearly all of them are."""
    lines = [
        "Differences as shares of the largest value of the case (of 0.001 if that is larger):",
        "",
        "| | comparisons | equal | of the others half are below | 95 % below | the largest |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for method, own in methods.items():
        shares = sorted(filter(None, (share(row["difference"]) for row in own.values())))
        at = [shares[int(part * (len(shares) - 1))] for part in (0.5, 0.95, 1)] if shares else []
        cells = [method, len(own), len(own) - len(shares), *(f"{value:.0e}" for value in at)]
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return lines


def share(difference: str) -> float:
    """Return a noted difference as a share of the largest value, or of the entries."""
    if found := NUMBERS.match(difference):
        worst, largest = map(float, found.groups())
        return worst / max(largest, SMALL)
    return 1 - float(difference.partition("%")[0]) / 100


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
