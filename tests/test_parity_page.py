"""The script behind `make parity`: a summary for readers, and a listing of every comparison."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "tests/golden/report.py"
NOTES = [
    {
        "method": "pcss",
        "case": "logits",
        "difference": "2e-06 (largest value 4)",
        "tolerance": "1e-4",
    },
    {"method": "pcss", "case": "labels", "difference": "100.000% equal", "tolerance": "exact"},
    {"method": "crt", "case": "boxes", "difference": "99.000% equal", "tolerance": "99.0% equal"},
]


def written(folder: Path) -> tuple[str, str]:
    """Return the page and the listing that the script writes for `NOTES`."""
    notes, page, listing = (folder / name for name in ("notes.jsonl", "page.md", "parity/cases.md"))
    notes.write_text("\n".join(map(json.dumps, NOTES)), encoding="utf-8")
    subprocess.run([sys.executable, SCRIPT, notes, page, listing], check=True)
    return page.read_text(encoding="utf-8"), listing.read_text(encoding="utf-8")


def test_the_summary_has_a_row_per_set_and_the_listing_a_row_per_case(tmp_path: Path) -> None:
    page, listing = written(tmp_path)
    assert page.endswith(
        "| crt | 1 | 0 | 1e-02 | 1e-02 | 1e-02 |\n| pcss | 2 | 1 | 5e-07 | 5e-07 | 5e-07 |\n"
    )
    assert "labels" not in page.rpartition("|--:|")[2]
    assert "## crt: 1 comparisons" in listing
    assert "| logits | 2e-06 (largest value 4) | 1e-4 |" in listing


def test_the_page_of_the_repository_is_what_the_script_writes(tmp_path: Path) -> None:
    prose = written(tmp_path)[0].partition("| crt | 1 |")[0]
    assert (ROOT / "docs/parity.md").read_text(encoding="utf-8").startswith(prose)


def test_the_listing_is_not_tracked_and_the_targets_name_both() -> None:
    assert "/parity/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "docs/parity.md parity/cases.md" in (ROOT / "Makefile").read_text(encoding="utf-8")
