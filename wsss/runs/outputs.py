"""The files of the folder of results: tables, figures and panels, and the files that they are made from.

Imports neither torch nor timm: Snakemake imports this module before every job.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from wsss.runs.checkout import PACKAGE, relative
from wsss.runs.inputs import data_files, initial_weights, initial_weights_path
from wsss.runs.run import WORK, Run
from wsss.settings import Params

TABLES = (
    "table.csv",
    "table.md",
    "table.tex",
    "metrics.json",
    "classes.csv",
    "classes.md",
    "classes.tex",
    "phenomena.csv",
    "summary.md",
    "summary.tex",
    "provenance.json",
    "curves.csv",
    "loss.csv",
)
FIGURES = {  # name -> category in the report
    **dict.fromkeys(("curves", "classes", "losses"), "Results"),
    **dict.fromkeys(("parts", "contexts", "sizes"), "Phenomena"),
}
SHOWN = ("cam", "pseudo", "masks", "boxes")  # stages whose archives the panels show


def results_inputs(params: Params, runs: Iterable[Run]) -> list[str]:
    """Return all files that tables, figures and panels are made from."""
    paths = [relative(PACKAGE / "report/tables/published.yaml")]
    for dataset in params.datasets:
        paths += [path.as_posix() for path in data_files(params, dataset)]
    paths += [f"{WORK}/{dataset}/data.json" for dataset in params.datasets]
    for run in runs:
        paths += _run_files(run)
    return list(dict.fromkeys(paths))


def _run_files(run: Run) -> Iterator[str]:
    """Yield the records, curves, scores and archives of a run, and its initial weights' records."""
    stages = run.stages()
    names = {f"{stage}.json" for stage in stages}
    names |= {f"{stage}.csv" for stage in run.trained}
    names |= {f"eval/{what}.csv" for what in run.scored}
    names |= {f"{stage}.zip" for stage in SHOWN if stage in stages}
    yield from (run.path(name).as_posix() for name in sorted(names))
    for stage in run.trained:
        for weights in initial_weights(run.settings, stage).values():
            yield initial_weights_path(weights).with_suffix(".json").as_posix()


def localization_tables(runs: Iterable[Run]) -> list[str]:
    """Return the tables of the methods that localize; none if there is no such run."""
    folder = next((run.results for run in runs if run.spec.localizes), None)
    return [f"{folder}/localization.{suffix}" for suffix in ("csv", "md") if folder]


def panels(runs: Sequence[Run]) -> list[tuple[str, dict[str, str]]]:
    """Return the path of every qualitative panel and its labels in the report."""
    paths = []
    for run in runs:
        stem = f"{run.results}/figures/panels-{run.dataset}-{run.method}-{run.protocol}-s{run.seed}"
        labels = {
            "dataset": run.dataset,
            "method": run.method,
            "protocol": run.protocol,
            "seed": str(run.seed),
        }
        if "cam" in run.stages():
            paths.append((f"{stem}.png", {**labels, "images": "training"}))
        paths.append((f"{stem}-val.png", {**labels, "images": "validation"}))
    return paths
