"""The command as a process: its exit status, and all that it has written."""

import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = "import atexit, sys, wsss.cli, wsss.__main__\n"
LONG = "x" * 1_000_000
# What the command does: (its exit status, what is printed, what is said of an error).
ENDS = {
    "wsss.cli.main = lambda: print('x' * 1_000_000)": (0, f"{LONG}\n", ""),
    "wsss.cli.main = lambda: atexit.register(print, 'closed', end='')": (0, "closed", ""),
    "wsss.cli.main = lambda: sys.exit()": (0, "", ""),
    "wsss.cli.main = lambda: sys.exit(3)": (3, "", ""),
    "wsss.cli.main = lambda: sys.exit('why')": (1, "", "why"),
    "wsss.cli.main = lambda: 1 / 0": (1, "", "ZeroDivisionError"),
}


@pytest.mark.parametrize("command", ENDS)
def test_a_process_ends_with_its_status_and_all_that_it_wrote(command: str) -> None:
    status, out, err = ENDS[command]
    program = f"{BEGIN}{command}\nwsss.__main__.run()"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (status, out)
    assert err in done.stderr


def test_output_that_cannot_be_written_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "wsss", "methods"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode not in (0, None)
    assert "No space left on device" in done.stderr


def test_the_program_is_the_module(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("wsss")
    first, second = (
        subprocess.run(
            [*command, "train", "nothing", "classifier"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        for command in ([str(program)], [sys.executable, "-m", "wsss"])
    )
    assert (first.returncode, first.stderr) == (second.returncode, second.stderr)
    assert first.returncode == 2
