"""Hostile parameter files do no harm; names of classes are text wherever they are shown."""

import csv
import io
import re
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path

import pytest
from answer import wsss
from bad_params import BAD, EVIL, Params

from wsss.report.tables import html, long
from wsss.report.tables.rows import Row

HARMLESS = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "dl", "dt", "dd", "div",
            "table", "thead", "tbody", "tr", "th", "td"}  # fmt: skip
COMMANDS = {"textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar",
            "begin", "end", "centering", "caption", "resizebox", "linewidth", "toprule", "midrule", "ddagger",
            "bottomrule", "usepackage", "pm", "label"}  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_a_parameter_file_that_is_wrong_is_answered_in_one_line(
    case: Params, work: Path, tried: None
) -> None:
    content = case.content.encode() if isinstance(case.content, str) else case.content
    (work / "params.yaml").write_bytes(content)
    wsss("params").refuses(case.said)
    assert not (work / "trace").exists()


def row(name: str) -> Row:
    """Return a row of the table whose every word is `name`."""
    words = {field.name: name for field in fields(Row) if field.type == "str"}
    numbers = {"miou": 0.5, "sd": 0.1, "seeds": 2, "best_miou": 0.6, "best_thresholds": (0.1, 0.2)}
    rest = {
        "published": 0.4,
        "images": 9,
        "threshold": (0.3, 0.3),
        "labels_used": True,
        "coverage": 1.0,
    }
    return Row(**{**words, **numbers, **rest, "stage": "seed", "convention": "A"})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", EVIL)
def test_no_cell_of_a_table_is_a_formula(name: str, tried: None) -> None:
    lines = [{"class": name, "iou": -0.5}]
    for text in (long.to_csv([row(name)]), long.csv_text(lines, ("class", "iou"))):
        cells = [cell for line in csv.reader(io.StringIO(text)) for cell in line]
        assert not [cell for cell in cells if cell.lstrip()[:1] in tuple("=+@") and cell]
        assert all(re.fullmatch(r"-?[\d.]+", cell) for cell in cells if cell.lstrip()[:1] == "-")
        assert not [cell for cell in cells if cell[:1] == "\t" or "\r" in cell]


class Tags(HTMLParser):
    """Collects the tags, the attributes and the text of a page."""

    def __init__(self, page: str) -> None:
        """Read a page."""
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        """Keep a text."""
        self.words.append(data)


@pytest.mark.parametrize("name", EVIL)
def test_a_name_is_text_in_the_page(name: str, tried: None) -> None:
    found = Tags(html.to_html([row(name)]))
    assert found.tags <= HARMLESS
    assert found.attributes <= {"lang", "charset", "name", "content", "class", "style"}
    assert (
        name.split()
        == [word for text in found.words if name.split() == text.split() for word in text.split()][
            : len(name.split())
        ]
    )


@pytest.mark.parametrize("name", EVIL)
def test_a_name_is_no_command_of_latex_or_markdown(name: str, tried: None) -> None:
    text = long.to_latex([row(name)])
    assert set(re.findall(r"\\([a-zA-Z]+)", text)) <= COMMANDS
    body = text[text.index("caption") : text.index(r"\end{tabular}")]
    assert not re.search(r"(?<!\\)[#_]|(?<!\\)%(?!\n)", body)
    lines = [line for line in long.to_markdown([row(name)]).splitlines() if line.startswith("|")]
    assert len(lines) == 3
    assert not re.search(r"(?<!\\)<", "".join(lines))


def test_a_class_name_cannot_lead_out_of_the_folder_of_predictions() -> None:
    from wsss.export.predict import file_name  # noqa: PLC0415  # it imports torch

    names = ["../../up", "a/b", "a%2Fb", "..", "a\0b", "frog"]
    found = [file_name(name) for name in names]
    assert len(set(found)) == len(names)
    assert not [name for name in found if "/" in name or "\0" in name]
    assert found[-1] == "frog"
