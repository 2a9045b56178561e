"""The page docs/public-data.md: the version of every public file, and what its lists must hold.

It is made from `sources.yaml` and `facts.yaml`. Imports neither torch nor timm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from wsss.datasets.facts import expected_lists
from wsss.datasets.fetch import Source, sources
from wsss.storage.files import write_text
from wsss.storage.markdown import table

PAGE = Path("docs/public-data.md")
BEGINNING = """\
# Public data

The versions of the public datasets: the address, the size in bytes and the hashes of every file. `wsss data fetch NAME`
downloads them into `data/`, goes on where a download stopped, and refuses a file of another size or hash, so two machines
have the same bytes. A file whose size or hash nobody has published is taken as it comes.

`wsss data check NAME` compares the prepared lists with the second table: the number of images, and the SHA-256 of their
sorted names and of their labels.

This page is made from [`sources.yaml`](../wsss/datasets/sources.yaml) and [`facts.yaml`](../wsss/datasets/facts.yaml) by
`wsss params --write`.

## Files
"""
LISTS = """\
## Lists
"""
REQUESTED = """\
## To be asked for by a person
"""


def write(folder: Path) -> None:
    """Write the page below the folder of a checkout."""
    write_text(folder / PAGE, page())


def page() -> str:
    """Return the page."""
    catalogue = sources()
    files = [_file(name, file) for name, (files, _) in catalogue.items() for file in files]
    advice = [f"- `{name}`: {line}\n" for name, (_, lines) in catalogue.items() for line in lines]
    return (
        "\n".join(
            [
                BEGINNING,
                table(
                    ("dataset", "file", "bytes", "MD5", "SHA-256", "hashes from"),
                    files,
                    right=("bytes",),
                ),
                LISTS,
                table(
                    ("dataset", "list", "images", "names", "labels"),
                    list(_lists(catalogue)),
                    right=("images",),
                ),
                REQUESTED,
                "".join(advice),
            ]
        ).rstrip("\n")
        + "\n"
    )


def _file(dataset: str, file: Source) -> Sequence[object]:
    hashes = (f"`{digest}`" if digest else "" for digest in (file.md5, file.sha256))
    return (f"`{dataset}`", f"[{file.file}]({file.url})", file.bytes or "", *hashes, file.citation)


def _lists(datasets: Iterable[str]) -> Iterator[Sequence[object]]:
    for dataset in datasets:
        for name, fact in expected_lists(dataset).items():
            digests = (fact.get("names"), fact.get("labels"))
            hashes = (f"`{digest[:16]}…`" if digest else "" for digest in digests)
            yield (f"`{dataset}`", f"`{name}`", fact["images"], *hashes)
