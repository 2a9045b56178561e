"""Folders outside the working folder that a container has to see: linked data and paths of the settings.

Imports neither torch nor timm: Snakemake imports this module before every job.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from wsss.runs.checkout import PACKAGE
from wsss.runs.run import WORK
from wsss.settings.params import Params

WRITTEN = (WORK.as_posix(), "results", "logs", "data/pretrained")
CACHES = ("SNAKEMAKE_OUTPUT_CACHE", "XDG_CACHE_HOME")
PATH_KEYS = ("root", "table", "sbd", "saliency")


def bound_folders(params: Params) -> list[Path]:
    """Return existing files and folders outside the working folder, after links, that jobs may touch.

    A link leads out of a container only if its target is bound at the path it has outside. Links inside the
    folder of a dataset (`JPEGImages`) are followed too, those further below are not.
    """
    named = [Path(name) for name in (*WRITTEN, *params.methods_path)]
    named += [Path(value) for value in map(os.environ.get, CACHES) if value]
    named += [path for dataset in params.datasets for path in _dataset_paths(params, dataset)]
    if (PACKAGE.parent / "Snakefile").is_file():
        named.append(PACKAGE.parent)
    return _outermost(path.resolve() for path in named)


def bind_variable() -> str:
    """Return the variable that names bound folders to the container program of this machine."""
    return "APPTAINER_BIND" if shutil.which("apptainer") else "SINGULARITY_BIND"


def binds(params: Params) -> dict[str, str]:
    """Return the variable with the user's own binds and those of the settings; nothing if there are none.

    A path with a comma or a colon is left out: these separate paths in the variable.
    """
    name = bind_variable()
    present = [entry for entry in os.environ.get(name, "").split(",") if entry]
    paths = [str(path) for path in bound_folders(params)]
    new = [path for path in paths if not set(",:") & set(path)]
    return {name: ",".join(dict.fromkeys((*present, *new)))} if present or new else {}


def _dataset_paths(params: Params, dataset: str) -> list[Path]:
    """Return the paths that the settings of a dataset name, and links to folders directly below."""
    settings = params.data.csv.get(dataset) or getattr(params.data, dataset)
    values = [getattr(settings, key, "") for key in PATH_KEYS]
    paths = [Path(value) for value in values if value]
    folders = [path for path in paths if path.is_dir()]
    entries = (entry for folder in folders for entry in os.scandir(folder))
    return paths + [Path(entry) for entry in entries if entry.is_symlink() and entry.is_dir()]


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """Return the paths that exist, lie outside the working folder and below no other of the paths."""
    folder = Path.cwd().resolve()
    outside: list[Path] = []
    for path in sorted({path for path in paths if path.exists()}):
        if not any(path.is_relative_to(other) for other in (folder, *outside)):
            outside.append(path)
    return outside
