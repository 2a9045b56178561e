"""The pages: short where they must be, linked, complete, and true to the package."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pages import BLOCK, PAGES, ROOT, blocks

from wsss import errors
from wsss.settings import method_spec
from wsss.settings.resolve import validate_params

WORDS = 1300  # of the README, counted as `wc -w` does
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")
PACKAGE = Path(errors.__file__).parent
METHOD_PAGES = [page for page in PAGES if page.startswith("docs/methods/")]
SECTIONS = ("Chain", "Settings", "Published numbers", "Differences from the published code")


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def links(page: str) -> Iterator[tuple[Path, str]]:
    """Yield the file and the anchor of every relative link of a page."""
    for path, anchor in LINK.findall(BLOCK.sub("", text(page))):
        yield (ROOT / page).parent / path if path else ROOT / page, anchor


def anchors(page: Path) -> set[str]:
    """Return the anchors that a forge gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short() -> None:
    assert len(text("README.md").split()) <= WORDS


def test_the_readme_says_early_what_was_not_shown() -> None:
    beginning = text("README.md").partition("## Install")[0]
    assert "**Not shown**: no number on PASCAL VOC or MS COCO" in beginning
    assert "docs/parity.md" in beginning


def test_the_readme_counts_the_comparisons_of_the_parity_page() -> None:
    counts = re.findall(r"^\| \w+ \| (\d+) \| \d+ \|", text("docs/parity.md"), re.MULTILINE)
    assert f"{sum(map(int, counts)):,} comparisons" in text("README.md")


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_every_relative_link_resolves(page: str) -> None:
    broken = [
        f"{target}#{anchor}"
        for target, anchor in links(page)
        if not target.exists() or (anchor and anchor not in anchors(target))
    ]
    assert broken == []


@pytest.mark.parametrize("page", PAGES)
def test_every_file_of_the_tests_that_is_named_exists(page: str) -> None:
    named = re.findall(r"\btests/[\w/.-]*\w", text(page))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page not in reached and page.suffix == ".md" and page.is_relative_to(ROOT):
            reached.add(page)
            waiting += [target for target, _ in links(str(page.relative_to(ROOT)))]
    assert {(ROOT / page).resolve() for page in PAGES} - reached == set()


def test_the_index_names_every_page() -> None:
    named = {target.resolve() for target, _ in links("docs/index.md")}
    pages = {(ROOT / page).resolve() for page in PAGES if page != "docs/index.md"}
    assert pages <= named


@pytest.mark.parametrize("method", method_spec.methods())
def test_every_method_has_one_page(method: str) -> None:
    heads = {page: text(page).splitlines()[2] for page in METHOD_PAGES}
    assert len([page for page, line in heads.items() if f"`{method}`" in line]) == 1


@pytest.mark.parametrize("page", METHOD_PAGES)
def test_a_page_of_a_method_has_every_section(page: str) -> None:
    assert tuple(re.findall(r"^## (.+)$", text(page), re.MULTILINE)) == SECTIONS


def test_every_published_number_stands_on_the_page_of_its_method() -> None:
    published = yaml.safe_load(
        (PACKAGE / "report/tables/published.yaml").read_text(encoding="utf-8")
    )
    ours = [entry for entry in published if entry["method"] in method_spec.methods()]
    assert len(ours) > 10
    for entry in ours:
        [page] = [
            page for page in METHOD_PAGES if f"`{entry['method']}`" in text(page).splitlines()[2]
        ]
        cells = {
            cell.strip()
            for row in re.findall(r"^\|.*\|$", text(page), re.MULTILINE)
            for cell in row.split("|")
        }
        numbers = {str(value["miou"]) for value in entry.get("values", ())}
        for boxes in entry.get("localization", ()):
            numbers |= {str(boxes[key]) for key in ("top1", "top5", "gt_known")}
        assert numbers <= cells, page


@pytest.mark.parametrize("page", ["docs/settings.md", "docs/own-data.md", "README.md"])
def test_settings_that_are_shown_are_valid(page: str) -> None:
    shown = [yaml.safe_load(block) for block in blocks(page, "yaml")]
    assert shown
    for settings in shown:
        overrides = settings.get("overrides", {}).values()
        methods = sorted({override["method"] for override in overrides}) or ["cam"]
        validate_params({"methods": methods, "protocols": ["common", "published"], **settings})


@functools.cache
def messages() -> tuple[str, ...]:
    """Return every sentence of the package, with `…` for what varies."""
    sentences = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (
                    part.value if isinstance(part, ast.Constant) else "…" for part in node.values
                )
                sentences.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                sentences.append(node.value)
    return tuple(sentences)


def explained() -> list[str]:
    """Return the messages in the tables of the page on troubleshooting."""
    rows = re.findall(
        r"^\| `+(.+?)`+ (?:\(or more\) )?\| ", text("docs/troubleshooting.md"), re.MULTILINE
    )
    return [row.replace("``", "`") for row in rows]


def test_many_messages_are_explained() -> None:
    assert len(explained()) > 50


@pytest.mark.parametrize("message", explained())
def test_a_message_that_is_explained_is_one_of_the_package(message: str) -> None:
    pieces = [re.escape(piece.strip()) for piece in message.split("…") if piece.strip()]
    pattern = re.compile(".*?".join(pieces), re.DOTALL)
    assert any(pattern.search(sentence) for sentence in messages())


def test_every_kind_of_error_is_named() -> None:
    kinds = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert kinds <= set(re.findall(r"`(\w+Error)`", text("docs/troubleshooting.md")))
