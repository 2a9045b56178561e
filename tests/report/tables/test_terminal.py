"""The table in a terminal: as wide as it is, with the columns that do not fit named."""

import fcntl
import os
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest

from wsss.report.tables.terminal import KEPT, fitted

TABLE = Path(__file__).parents[3] / "docs/results/demo/table.md"


def rows(text: str) -> list[list[str]]:
    """Return the cells of the table in a text."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("width", [245, 244, 160, 120, 80])
def test_a_table_fits_and_every_column_is_shown_or_named(width: int) -> None:
    whole, narrow = TABLE.read_text(), fitted(TABLE.read_text(), width)
    assert max(len(line) for line in narrow.splitlines() if line.startswith("|")) <= width
    heads, shown = rows(whole)[0], rows(narrow)[0]
    named = narrow.partition("Left out for want of width: ")[2].partition(".\n")[0]
    assert sorted(shown + list(filter(None, named.split("; ")))) == sorted(heads)
    places = [heads.index(head) for head in shown]
    assert rows(narrow) == [[line[place] for place in places] for line in rows(whole)]
    assert narrow.endswith(whole.partition("\n\n")[2])


def test_what_a_number_needs_stays_however_narrow_the_terminal_is() -> None:
    whole = TABLE.read_text()
    assert rows(fitted(whole, 10))[0] == [head for head in KEPT if head in rows(whole)[0]]


def test_a_bar_in_a_cell_is_no_border() -> None:
    table = "| a \\| b | c |\n| ------ | - |\n| 1 \\| 2 | 3 |\n"
    assert fitted(table, 10).splitlines()[0] == "| a \\| b |"
    assert fitted(table, 14) == table


@pytest.mark.parametrize("columns", [100, 140])
def test_a_terminal_gets_what_fits_and_a_pipe_the_whole(columns: int) -> None:
    command = [sys.executable, "-m", "wsss", "table", "--from", str(TABLE.with_suffix(".csv"))]
    environment = {**os.environ, "COLUMNS": ""}
    piped = subprocess.check_output(command, text=True, env={**environment, "COLUMNS": "80"})
    shown, stdout = os.openpty()
    fcntl.ioctl(stdout, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))
    said = ""
    with subprocess.Popen(command, stdout=stdout, env=environment):
        os.close(stdout)
        with suppress(OSError):  # so Linux says that all has been read
            while part := os.read(shown, 65536):
                said += part.decode()
    os.close(shown)
    said = said.replace("\r\n", "\n")
    assert said == fitted(piped, columns)
    assert said != piped
