"""Make Snakemake content with results that came from elsewhere, if every one of them verifies.

DVC brings files with new times and without Snakemake's notes on them. Imports neither torch nor timm.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from wsss.errors import WsssError
from wsss.runs.resume import command

TOUCH = ("--touch", "--forceall", "--cores", "1", "--quiet", "all")


def touch(files: Sequence[Path], arguments: Sequence[str] = ()) -> None:
    """Let Snakemake note every file of the plan as its own, whichever way it keeps its notes.

    files: parameter files. arguments: further ones of Snakemake, such as a profile. Without
    `--forceall` Snakemake would leave a part out.
    """
    layers = ["--configfile", *map(str, files[1:])] if len(files) > 1 else []
    done = subprocess.run(  # noqa: S603  # the user's own arguments
        [*command([*TOUCH, *layers, *arguments])], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise WsssError(f"Snakemake did not take the files: {' '.join(lines[-3:]) or 'no message'}")
