"""Files beside the Snakefile, whatever folder a run works in.

A run works in the folder of the Snakefile, in another one (`--directory`, or `-s` from elsewhere), or
in the folder of a workflow that takes the Snakefile as a module. Imports neither torch nor timm.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
PARAMS_FILE = "params.yaml"


def relative(path: Path) -> str:
    """Return a path, relative to the working folder if it lies inside, so that it can move along."""
    folder = Path.cwd()
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def params_file(checkout: Path = PACKAGE.parent) -> str:
    """Return the parameter file of the working folder or, where there is none, of the checkout."""
    beside = checkout / PARAMS_FILE
    return relative(beside) if beside.is_file() and not Path(PARAMS_FILE).is_file() else PARAMS_FILE


class Checkout:
    """The folder of the Snakefile that is being read, and how it is used."""

    def __init__(self, workflow: Any) -> None:
        """Take the folder from Snakemake; the package's, if the Snakefile lies on a server."""
        folder = workflow.current_basedir
        is_local = getattr(folder, "is_local", False)
        self._folder = Path(os.fspath(folder)).resolve() if is_local else PACKAGE.parent
        self.is_module = not workflow.modifier.is_main_snakefile()

    @property
    def params_file(self) -> str:
        """The parameter file below all others."""
        return params_file(self._folder)

    def path(self, name: str) -> str:
        """Return the path of a file of the checkout."""
        return relative(self._folder / name)

    def shell_functions(self, name: str) -> str:
        """Return what the shell of every job runs first: strict mode, and the functions of a file.

        Conda environments and containers do not have `wsss`. Python finds it in the working folder; in
        another one than the checkout it needs PYTHONPATH, which Snakemake takes away from conda's jobs.
        """
        functions = f"set -euo pipefail; source {shlex.quote(self.path(name))}; "
        if self._folder == Path.cwd() or not (self._folder / PACKAGE.name).is_dir():
            return functions
        others = "${{PYTHONPATH:+:$PYTHONPATH}}"  # Snakemake reads double braces as single ones
        return f"{functions}export PYTHONPATH={shlex.quote(str(self._folder))}{others}; "
