"""How long the jobs of runs took, from Snakemake's benchmark files.

A benchmark file is a table with one line: seconds on the clock, processor seconds, and the largest
memory of a job. The file of a stage is `benchmarks/RUN/STAGE.tsv`; those of its shards are in
`benchmarks/RUN/STAGE/`.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsss.errors import MissingError
from wsss.report.tables.long import grid
from wsss.runs.occasion import FOLDER
from wsss.runs.run import Run, stage_kind

TRAINING = "training"  # of the networks of a method's chain, and of its text vectors
SCORING = "thresholds, scores"
TITLES = {
    "cam": "CAMs",
    "boxes": "boxes",
    "decode": "own decoder",
    "confident": "affinity labels",
    "affinity": "affinity network",
    "walk": "random walk",
    "instances": "instances",
    "pseudo": "pseudo labels",
    "segmenter": "segmenter",
    "masks": "masks",
    "calibrate": SCORING,
    "eval": SCORING,
}
NAMES = ("method", "protocol")
HEADS = (*NAMES, "seeds", "all")
LAST = ("processor minutes", "largest memory, GB")


@dataclass(frozen=True)
class Job:
    """One job: its stage, seconds on the clock, processor seconds, and memory in MB."""

    stage: str
    wall_s: float
    processor_s: float
    memory_mb: float


def jobs(run: Run, root: Path = Path()) -> Iterator[Job]:
    """Yield the jobs of a run that have been timed, one for each benchmark file."""
    folder = root / FOLDER / str(run)
    for path in sorted(folder.rglob("*.tsv")):
        place = path.relative_to(folder).with_suffix("").parts[0]
        kind = TRAINING if place in run.networks else stage_kind(place)
        with path.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file, delimiter="\t"):
                wall, processor, memory = (
                    _number(line[key]) for key in ("s", "cpu_time", "max_rss")
                )
                yield Job(TITLES.get(kind, kind), wall, processor, memory)


def times(runs: Sequence[Run], root: Path = Path()) -> str:
    """Return a table in Markdown: a line for each method and protocol, minutes of all and of each stage.

    Stages that took longest come first, so that what a narrow terminal leaves out matters least.

    runs: planned runs, of which those without a timed job have no line. root: folder of the study.
    Raises MissingError if no job of them has been timed.
    """
    rows: dict[tuple[str, str], list[Job]] = defaultdict(list)
    seeds: dict[tuple[str, str], set[int]] = defaultdict(set)
    several = len({run.dataset for run in runs}) > 1
    for run in runs:
        timed = list(jobs(run, root))
        if timed:
            name = (f"{run.dataset}: {run.title}" if several else run.title, run.protocol)
            rows[name] += timed
            seeds[name].add(run.seed)
    if not rows:
        raise MissingError(
            f"{FOLDER}/ has no times of the planned runs: run them by Snakemake first."
        )
    minutes = {name: _minutes(timed) for name, timed in rows.items()}
    totals = {
        stage: sum(spent[stage] for spent in minutes.values())
        for stage in dict.fromkeys((TRAINING, *TITLES.values()))
    }
    shown = sorted(filter(totals.get, totals), key=lambda stage: -totals[stage])
    lines = []
    for name, timed in rows.items():
        wall = [sum(minutes[name].values()), *(minutes[name][stage] for stage in shown)]
        cells = [f"{value:.1f}" for value in (*wall, *_processor_and_memory(timed))]
        lines.append([*name, str(len(seeds[name])), *cells])
    heads = [*HEADS, *shown, *LAST]
    numbers = [head not in NAMES for head in heads]
    caption = "Minutes on the clock of all jobs together; jobs may have run side by side."
    return "\n".join([*grid(heads, lines, numbers), "", caption]) + "\n"


def _minutes(timed: Sequence[Job]) -> dict[str, float]:
    """Return the minutes that the jobs of each stage took."""
    minutes: dict[str, float] = defaultdict(float)
    for job in timed:
        minutes[job.stage] += job.wall_s / 60
    return minutes


def _processor_and_memory(timed: Sequence[Job]) -> tuple[float, float]:
    """Return the processor minutes of all jobs, and the largest memory of one in GB."""
    return sum(job.processor_s for job in timed) / 60, max(job.memory_mb for job in timed) / 1000


def _number(text: str | None) -> float:
    """Return the number of a cell; 0 for what Snakemake could not measure (`NA`, `-`)."""
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
