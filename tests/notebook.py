"""Run the code of a notebook, cell by cell, in the folder it lies in; with --write, store what it shows.

    python tests/notebook.py docs/tour.ipynb --write

It stores text, tables and figures as Jupyter does, figures with few colours, so that the file stays small.
"""

import argparse
import ast
import base64
import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
from nbformat.v4 import new_output
from PIL import Image

COLOURS = 128  # of a stored figure


def run_cells(book: nbformat.NotebookNode) -> None:
    """Run the code cells in order, in one namespace; each cell has its outputs afterwards."""
    names: dict[str, object] = {}
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, 1):
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            value = run_cell(cell.source, f"cell {number}", names)
        cell.execution_count = number
        cell.outputs = [*streams(text.getvalue()), *figures(), *results(value, number)]


def run_cell(source: str, name: str, names: dict[str, object]) -> object:
    """Run a cell; return the value of its last line if that is an expression, else None."""
    tree = ast.parse(source, name)
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr):
        exec(compile(tree, name, "exec"), names)  # noqa: S102  # a notebook of this repository
        return None
    exec(compile(ast.Module(tree.body[:-1], []), name, "exec"), names)  # noqa: S102
    return eval(compile(ast.Expression(last.value), name, "eval"), names)  # noqa: S307


def streams(text: str) -> Iterator[nbformat.NotebookNode]:
    if text:
        yield new_output("stream", name="stdout", text=text)


def figures() -> Iterator[nbformat.NotebookNode]:
    """Yield the open figures as outputs, and close them."""
    for number in plt.get_fignums():
        buffer, small = io.BytesIO(), io.BytesIO()
        plt.figure(number).savefig(buffer, format="png")
        picture = Image.open(buffer).convert("RGB")
        picture.quantize(COLOURS, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
        data = {"image/png": base64.b64encode(small.getvalue()).decode()}
        yield new_output("display_data", data=data)
    plt.close("all")


def results(value: object, number: int) -> Iterator[nbformat.NotebookNode]:
    if value is not None:
        data = {"text/plain": repr(value)}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = value._repr_html_()
        yield new_output("execute_result", data=data, execution_count=number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--folder", type=Path, help="run it there instead of in its own folder")
    parser.add_argument("--write", action="store_true", help="store what it shows")
    options = parser.parse_args()
    path = options.notebook.absolute()
    book = nbformat.read(path, 4)
    mpl.use("agg")
    os.chdir(options.folder or path.parent)
    run_cells(book)
    nbformat.validate(book)
    if options.write:
        nbformat.write(book, path)


if __name__ == "__main__":
    main()
