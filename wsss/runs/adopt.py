"""Make Snakemake content with results that came from elsewhere, if every one of them verifies.

DVC brings files with new times and without Snakemake's notes on them. Imports neither torch nor timm.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from wsss.errors import WsssError
from wsss.runs.occasion import Occasion, read_occasion, write_occasion
from wsss.runs.resume import command
from wsss.runs.run import Run
from wsss.runs.staleness import records
from wsss.storage.files import read_json

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


def keep_commits(runs: Iterable[Run], provenance: Path) -> None:
    """Note the commit at which each stage ran, as an earlier provenance file says of the same files.

    provenance: the file of the checkout, which comes with Git; nothing is noted where there is none.
    """
    content = read_json(provenance) if provenance.is_file() else {}
    for run in runs:
        stages = content.get("runs", {}).get(str(run), {})
        for group in content.get("made_with", {}).get(str(run), ()):
            for stage, record in records(run).items():
                path, digest = run.path(f"{stage}.json"), record.digest
                is_same = stages.get(stage, {}).get("outputs") == record.outputs
                is_known = read_occasion(path, digest) != Occasion()
                if stage in group["stages"] and is_same and not is_known:
                    occasion = Occasion(record=digest, commit=group["commit"], dirty=group["dirty"])
                    write_occasion(path, occasion)
