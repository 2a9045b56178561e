"""The page of public data is what the package writes from its lists of files."""

from pathlib import Path

from wsss.datasets import downloads_page
from wsss.datasets.fetch import sources

ROOT = Path(__file__).parents[2]


def test_the_page_of_public_data_is_what_the_package_writes() -> None:
    page = (ROOT / downloads_page.PAGE).read_text(encoding="utf-8")
    assert page == downloads_page.page(), "run `wsss params --write`"
    files = [file for files, _ in sources().values() for file in files]
    assert files
    for file in files:
        assert all(str(value) in page for value in (file.url, file.bytes or "", file.md5 or ""))
