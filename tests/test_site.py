"""The documentation site: built without a warning, complete, read from disk, and without the network."""

import ast
import csv
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
from pages import PAGES, ROOT
from readers import PHONE, WIDTH, Reader, look

import wsss

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

SOURCE = ROOT / "docs/site"
GALLERY = ROOT / "docs/results/demo/gallery/index.html"
PARTS = [
    *["Home", "Start", "Your own data", "Import", "Methods", "Cluster", "Versions", "API"],
    *["Results", "Speed", "How it is known to be right", "Troubleshooting", "Glossary"],
    "Take part",
]
LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}


def build(config: Path, pages: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Build a site with MkDocs from a folder of pages."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--config-file", str(config), *arguments],
        env={**os.environ, "WSSS_SITE_PAGES": str(pages), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of all pages before MkDocs makes a site of them."""
    folder = tmp_path_factory.mktemp("pages with spaces").resolve()
    subprocess.run([sys.executable, str(SOURCE / "pages.py"), str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the site; skip where MkDocs is not installed and not required."""
    if not all(importlib.util.find_spec(name) for name in ("mkdocs", "material", "mkdocstrings")):
        if os.environ.get("WSSS_REQUIRE_SITE") == "1":
            pytest.fail(
                "WSSS_REQUIRE_SITE is set, but the dependency group `docs` is not installed"
            )
        pytest.skip("the dependency group `docs` is not installed: `make docs` installs it")
    return tmp_path_factory.mktemp("site with spaces").resolve()


@pytest.fixture(scope="module")
def site(folder: Path, pages: Path) -> Path:
    """Return the built site."""
    html = folder / "html"
    result = build(SOURCE / "mkdocs.yml", pages, "--site-dir", str(html))
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stderr
    return html


class Content(HTMLParser):
    """What a page loads, where its links lead, its anchors, and its text outside of code."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.text: list[str] = []
        self._code = 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        """Note an element."""
        values = {name: value or "" for name, value in attrs}
        self._code += tag in ("code", "script", "style")
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if LOADED.get(tag) in values and values.get("rel") not in ("prev", "next", "canonical"):
            self.loaded.append(values[LOADED[tag]])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])

    def handle_endtag(self, tag: str) -> None:
        """Note the end of an element."""
        self._code -= tag in ("code", "script", "style")

    def handle_data(self, data: str) -> None:
        """Note text that is not code."""
        if not self._code:
            self.text.append(data)


@pytest.fixture(scope="module")
def contents(site: Path) -> dict[Path, Content]:
    """Return every page that MkDocs has made, by its path."""
    paths = [path for path in site.rglob("*.html") if "results/demo" not in str(path)]
    return {path: Content(path) for path in paths if path.name != "404.html"}


def relative(content: Content) -> Iterator[tuple[Path, str]]:
    """Yield the file and the anchor of every link into the site."""
    for link in content.links:
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            yield (content.path.parent / unquote(path)).resolve() if path else content.path, anchor


def test_every_link_between_pages_leads_to_a_file_of_the_site(pages: Path) -> None:
    link = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)")
    fence = re.compile(r"^(`{3,})\w*\n.*?^\1$", re.MULTILINE | re.DOTALL)
    broken = [
        f"{page.relative_to(pages)}: {address}"
        for page in pages.rglob("*.md")
        for address in link.findall(fence.sub("", page.read_text(encoding="utf-8")))
        if not (page.parent / unquote(address)).is_file()
    ]
    assert broken == []


def test_every_page_of_the_repository_is_in_the_site(site: Path) -> None:
    moved = {"README.md": "start.md", "CONTRIBUTING.md": "contributing.md"}
    names = [moved.get(page, page.removeprefix("docs/")) for page in PAGES]
    missing = [name for name in names if not (site / name).with_suffix(".html").is_file()]
    assert missing == []


def test_the_navigation_has_its_order(contents: dict[Path, Content], site: Path) -> None:
    text = [" ".join(words.split()) for words in contents[site / "index.html"].text]
    titles = iter(text)
    assert all(part in titles for part in PARTS)  # each after the one before


def test_the_title_page_says_what_it_is_with_two_commands_and_a_picture(
    contents: dict[Path, Content], site: Path
) -> None:
    page = (site / "index.html").read_text(encoding="utf-8")
    beginning = page.partition('id="what-has-been-shown-and-what-not"')[0]
    assert "Weakly supervised semantic segmentation: pixel masks" in beginning
    assert "make demo" in beginning
    assert "make test" in beginning
    assert "stamps.jpg" in contents[site / "index.html"].loaded
    assert "scenes: © 2011 MIT" in (site / "index.html").read_text(encoding="utf-8")
    assert "no number on PASCAL VOC or MS COCO" in page


def test_no_page_loads_anything_from_elsewhere(contents: dict[Path, Content], site: Path) -> None:
    for content in contents.values():
        for address in content.loaded:
            path = content.path.parent / unquote(address.partition("?")[0])
            assert path.is_file(), f"{content.path.name} loads {address}"
    for style in site.rglob("*.css"):
        addresses = re.findall(r"url\(([^)]*)\)|@import\s+(\S+)", style.read_text(encoding="utf-8"))
        remote = [
            address for address in map("".join, addresses) if "//" in address.partition("data:")[0]
        ]
        assert remote == []


def test_every_link_of_the_site_leads_somewhere(contents: dict[Path, Content]) -> None:
    broken = [
        f"{content.path.name}: {target}#{anchor}"
        for content in contents.values()
        for target, anchor in relative(content)
        if not target.is_file()
        or (anchor and target in contents and anchor not in contents[target].anchors)
    ]
    assert broken == []


def test_a_link_or_an_anchor_to_nothing_stops_the_build(folder: Path) -> None:
    pages, config = folder / "broken", folder / "broken.yml"
    pages.mkdir()
    (pages / "index.md").write_text("# A\n\n[b](no-such-page.md) [c](#no-such-part)\n")
    config.write_text(
        f"INHERIT: {SOURCE / 'mkdocs.yml'}\nnav: [index.md]\nplugins: []\n"
        f"theme: {{custom_dir: {str(SOURCE / 'theme')!r}}}\n"
    )
    result = build(config, pages, "--site-dir", str(folder / "nothing"))
    assert result.returncode == 1
    assert "no-such-page.md" in result.stderr
    assert "#no-such-part" in result.stderr


def test_no_markdown_is_left_as_it_was_written(contents: dict[Path, Content]) -> None:
    unrendered = re.compile(r"(^|\n *)- \S|^\||```|\]\(|\*\*|^#+ ", re.MULTILINE)
    for content in contents.values():
        if "source" not in content.path.parts:
            assert [text for text in content.text if unrendered.search(text)] == [], (
                content.path.name
            )


def test_the_notebook_is_a_page_with_its_stored_pictures(
    contents: dict[Path, Content], site: Path
) -> None:
    cells = json.loads((ROOT / "docs/tour.ipynb").read_text(encoding="utf-8"))["cells"]
    outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", ())]
    stored = sum("image/png" in data for data in outputs)
    drawn = [address for address in contents[site / "tour.html"].loaded if "tour/" in address]
    assert len(drawn) == stored > 5
    assert "<table" in (site / "tour.html").read_text(encoding="utf-8")


def test_the_reference_has_every_public_name(contents: dict[Path, Content], site: Path) -> None:
    anchors = contents[site / "reference.html"].anchors
    assert set(wsss.__all__) <= {anchor.rpartition(".")[2] for anchor in anchors}
    text = " ".join(contents[site / "reference.html"].text)
    functions = [
        node
        for path in (ROOT / "wsss/api").glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name in wsss.__all__
    ]
    sentences = [str(ast.get_docstring(function)).splitlines()[0] for function in functions]
    assert len(sentences) > 10
    assert [line for line in sentences if "`" not in line and line not in text] == []


def test_the_gallery_is_of_the_run_that_the_tables_are_of() -> None:
    text = GALLERY.read_text(encoding="utf-8")
    script = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert script
    runs = json.loads(script[1])["runs"]
    in_gallery = {
        (run["name"], f"{100 * score['miou']:.1f}") for run in runs for score in run["scores"]
    }
    with (ROOT / "docs/results/demo/table.csv").open(newline="", encoding="utf-8") as file:
        in_table = {
            (
                f"{row['dataset']}/{row['method']}/{row['protocol']}/s0",
                f"{100 * float(row['miou']):.1f}",
            )
            for row in csv.DictReader(file)
        }
    assert in_gallery == in_table


@pytest.fixture
def reader(browser: "Chrome", site: Path) -> Iterator[Reader]:
    """Yield a reader of the site; at the end no message was printed and nothing left the folder."""
    look(browser, WIDTH)
    person = Reader(browser)
    person.said(), person.asked_for()
    yield person
    browser.switch_to.default_content()
    assert person.said() == []
    outside = [
        address
        for address in person.asked_for()
        if not address.startswith((site.as_uri(), "data:", "blob:", "about:"))
    ]
    assert outside == []


def test_the_search_finds_a_page_from_disk(reader: Reader, site: Path) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    reader.chrome.get((site / "index.html").as_uri())
    reader.press("/", "AffinityNet")
    results = "a.md-search-result__link"
    WebDriverWait(reader.chrome, 30).until(
        lambda chrome: chrome.find_elements("css selector", results)
    )
    links = reader.ask(f"[...document.querySelectorAll('{results}')].map(e => e.href)")
    assert any("glossary.html" in link for link in links)
    reader.chrome.get(links[0])
    assert "AffinityNet" in reader.ask("document.body.innerText")


def test_the_gallery_can_be_played_with_inside_its_page(reader: Reader, site: Path) -> None:
    reader.chrome.get((site / "gallery.html").as_uri())
    reader.chrome.switch_to.frame(reader.chrome.find_element("css selector", "iframe.gallery"))
    assert len(reader.names()) == 24
    reader.choose("split", "validation")
    assert len(reader.names()) == 12
    assert reader.captions() == [
        *["image", "CAM: prediction", "true masks (upper bound): prediction", "truth"]
    ]
    reader.choose("sort", "IoU, worst first")
    reader.tick("columns", "truth")
    assert "truth" not in reader.captions()
    reader.chrome.find_element("id", "view-runs").click()
    assert "Confusion of classes" in reader.ask("document.body.innerText")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDTH, PHONE])
def test_nothing_is_cut_off_and_colours_follow_the_reader(
    reader: Reader, site: Path, width: int, scheme: str
) -> None:
    look(reader.chrome, width, scheme)
    for page in ("index", "methods/pcss", "results", "gallery", "reference"):
        reader.chrome.get((site / f"{page}.html").as_uri())
        assert reader.ask("document.documentElement.scrollWidth") <= width
        assert reader.ask("document.body.dataset.mdColorScheme") == (
            "slate" if scheme == "dark" else "default"
        )
