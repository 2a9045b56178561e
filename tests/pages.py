"""The pages that a reader finds, and their code blocks, as the reader copies them."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "docs").rglob("*.md")
        if "results" not in path.parts  # tables that `make numbers` writes
    ),
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    """Return the blocks of a language, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [content for kind, content in BLOCK.findall(text) if kind == language]
