"""Write docs/parity.md from the comparisons that the golden tests noted (`make parity`)."""

import json
import sys
from pathlib import Path

INTRODUCTION = """# Parity with the published code

Every comparison with numbers that the authors' code computed, and the largest difference found.
Weights come in the published key layout through the checkpoint loader. Made by `make parity`.
"""


def main(notes: Path, page: Path) -> None:
    """Turn the lines of `notes` into a page with a table per method."""
    rows = [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines()]
    lines = [INTRODUCTION]
    for method in sorted({row["method"] for row in rows}):
        own = {row["case"]: row for row in rows if row["method"] == method}
        lines += [f"## {method}: {len(own)} comparisons", ""]
        lines += ["| case | largest difference | tolerance |", "|---|---|---|"]
        lines += [
            f"| {case} | {own[case]['difference']} | {own[case]['tolerance']} |"
            for case in sorted(own)
        ]
        lines += [""]
    page.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
