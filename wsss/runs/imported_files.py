"""The manifest of imported files, and whether they are still the ones that were imported.

Imports neither torch nor timm: Snakemake imports this module before every job.
"""

from __future__ import annotations

from pathlib import Path

from wsss.data.manifest import changes, load_manifest
from wsss.runs.run import Run


def imported_manifest(run: Run, stage: str) -> Path:
    """Return the manifest of the files that a stage was imported from."""
    return run.path(f"{stage}.files.json")


def changed_files(run: Run, stage: str) -> str:
    """Return in words which files have changed since a stage was imported; empty if none have.

    Nothing is compared where the stage is not finished or the files are absent, as in a clone.
    """
    if not run.path(f"{stage}.json").is_file():
        return ""
    path = imported_manifest(run, stage)
    manifest = load_manifest(path)
    if manifest is None:
        return f"{path}, which names the imported files, is missing or damaged"
    present = changes(manifest)
    return str(present) if present else ""
