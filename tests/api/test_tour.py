"""The notebook: it runs without an error, uses public names alone, and stores small pictures."""

import ast
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nbformat
import pytest
from pages import ROOT

import wsss

TOUR = ROOT / "docs/tour.ipynb"
LARGEST_BYTES = 300_000


@pytest.fixture(scope="module")
def tour() -> nbformat.NotebookNode:
    """Return the notebook as it is stored."""
    book = nbformat.read(TOUR, 4)
    nbformat.validate(book)
    return book


def code(book: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def kinds(book: nbformat.NotebookNode) -> list[Counter[str]]:
    """Return how many outputs of each kind the code cells have."""
    return [Counter(output.output_type for output in cell.outputs) for cell in code(book)]


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_is_stored(
    tour: nbformat.NotebookNode, study: Path, tmp_path: Path
) -> None:
    for path in study.iterdir():
        (tmp_path / path.name).symlink_to(path)
    folder = tmp_path / "docs"
    folder.mkdir()
    copy = folder / TOUR.name
    copy.write_bytes(TOUR.read_bytes())
    runner = [sys.executable, str(ROOT / "tests/notebook.py"), str(copy), "--write"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(runner, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    again = nbformat.read(copy, 4)
    assert kinds(again) == kinds(tour), "store it again: tests/notebook.py says how"
    assert [cell.source for cell in code(again)] == [cell.source for cell in code(tour)]
    assert "largest difference from the stored maps: 0.0" in str(again)


def test_the_stored_outputs_are_whole_and_small(tour: nbformat.NotebookNode) -> None:
    assert TOUR.stat().st_size < LARGEST_BYTES
    assert [cell.execution_count for cell in code(tour)] == [*range(1, len(code(tour)) + 1)]
    total = sum(kinds(tour), Counter())
    assert total["display_data"] >= 8
    assert set(total) == {"display_data", "stream", "execute_result"}


def test_the_notebook_uses_public_names_alone(tour: nbformat.NotebookNode) -> None:
    tree = ast.parse("\n".join(cell.source for cell in code(tour)))
    nodes = list(ast.walk(tree))
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    ours = {
        node.attr
        for node in attributes
        if isinstance(node.value, ast.Name) and node.value.id == "wsss"
    }
    assert ours <= set(wsss.__all__)
    assert {"open_run", "load", "seed", "random_walk", "crf", "confusion"} <= ours
    assert not [node.attr for node in attributes if node.attr.startswith("_")]
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {alias.name for node in imports for alias in node.names} == {
        "matplotlib.pyplot",
        "numpy",
        "wsss",
    }
