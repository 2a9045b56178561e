"""The table of localization: how many objects are found, and how the other answers fail.

Shares are in [0, 1].
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wsss.errors import StaleError
from wsss.report.tables import published
from wsss.report.tables.alike import check_seeds
from wsss.report.tables.long import accepted_notes, grid, percent
from wsss.report.tables.rows import ACCEPTED, DIGITS, SOFTWARE, accepted_reasons, reasons, software
from wsss.runs.evaluation import BoxEvaluation
from wsss.runs.knowledge import is_more_than_labels
from wsss.runs.record import read_record
from wsss.runs.run import Run
from wsss.scores.boxes import OUTCOMES
from wsss.settings import Params

HEADS = {
    "top1": "Top-1 %",
    "top5": "Top-5 %",
    "gt_known": "GT-known %",
    "top1_class": "class Top-1 %",
    "top5_class": "class Top-5 %",
}
FAILURES = {
    "class": "other class",
    "multi_instance": "several objects",
    "part": "part",
    "more": "too much",
    "wrong": "elsewhere",
}
PUBLISHED = ("top1", "top5", "gt_known")  # the criteria for which papers give numbers
RUN = ("dataset", "method", "title", "protocol", "seeds", "split", "images", "threshold")
KNOWLEDGE = ("extra", "pretraining", "parameters", "images_seen")
COLUMNS = (
    *RUN,
    *(name for criterion in HEADS for name in (criterion, f"{criterion}_sd")),
    *OUTCOMES,
    *(f"{criterion}_published" for criterion in PUBLISHED),
    "source",
    "networks",
    *KNOWLEDGE,
    *SOFTWARE,
)
NOTE = (
    "Share of the validation images with one class. Top-1, Top-5: the class is among the best and "
    "its box overlaps a true one by more than half (IoU); GT-known: the box of the true class does. "
    "The failures are of the best class, the first that applies."
)


@dataclass(frozen=True)
class BoxScore:
    """One evaluation of boxes with its run and its file."""

    run: Run
    evaluation: BoxEvaluation
    path: Path
    accepted: tuple[str, ...] = ()  # why results of earlier code count

    @property
    def group(self) -> tuple[str, str, str]:
        """Dataset, method and protocol: the evaluations of all seeds share them."""
        return (self.run.dataset, self.run.method, self.run.protocol)


@dataclass(frozen=True)
class Share:
    """A share of the images: mean and standard deviation over seeds, None for one seed."""

    mean: float
    sd: float | None


@dataclass(frozen=True)
class BoxRow:
    """One line of the table: means over seeds.

    shares: by criterion. outcomes: share of the images by outcome. published: by criterion, None
    if the paper does not give it. extra, pretraining, parameters, images_seen: as in `rows.Row`.
    software: versions, devices and precisions by name.
    """

    dataset: str
    method: str
    title: str
    protocol: str
    seeds: int
    split: str
    images: int
    threshold: float
    shares: Mapping[str, Share]
    outcomes: Mapping[str, float]
    published: Mapping[str, float | None]
    source: str
    networks: str
    extra: str
    pretraining: str
    parameters: int | None
    images_seen: int | None
    software: Mapping[str, str]
    accepted: str = ""

    @property
    def is_below(self) -> bool:
        """Whether the row stands below the line: it has learned from more than image labels."""
        return is_more_than_labels(self.extra)

    def cells(self) -> dict[str, object]:
        """Return the values of all `COLUMNS`."""
        line: dict[str, object] = {name: getattr(self, name) for name in RUN}
        for criterion, share in self.shares.items():
            line |= {criterion: share.mean, f"{criterion}_sd": share.sd}
        line |= self.outcomes
        line |= {f"{criterion}_published": value for criterion, value in self.published.items()}
        line |= {"source": self.source, "networks": self.networks}
        return line | {name: getattr(self, name) for name in KNOWLEDGE} | dict(self.software)


def collect(runs: Iterable[Run]) -> list[BoxScore]:
    """Return the evaluation of every run whose method localizes."""
    scores = []
    for run in (run for run in runs if run.spec.localizes):
        path = run.path("eval/boxes.json")
        score = read(path, run.params)
        if str(score.run) != str(run):
            raise StaleError(f"{path} is of {score.run}. Delete it and run again.")
        scores.append(replace(score, accepted=accepted_reasons(run, "eval/boxes")))
    return scores


def read(path: Path, params: Params) -> BoxScore:
    """Return the evaluation of boxes in a file; refuse a number without its protocol."""
    evaluation = read_record(path, BoxEvaluation, "an evaluation of boxes")
    return BoxScore(Run.named(evaluation.run, params), evaluation, path)


def table_rows(scores: Iterable[BoxScore]) -> list[BoxRow]:
    """Return one row per dataset, method and protocol: means over seeds; see `rows.ordered`."""
    grouped: dict[tuple[str, str, str], list[BoxScore]] = {}
    for score in scores:
        grouped.setdefault(score.group, []).append(score)
    for seeds in grouped.values():
        for other in seeds[1:]:
            check_seeds(seeds[0], other)
    rows = [_row(seeds) for seeds in grouped.values()]
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    return sorted(rows, key=lambda row: (datasets.index(row.dataset), row.is_below))


def _row(seeds: Sequence[BoxScore]) -> BoxRow:
    run, first = seeds[0].run, seeds[0].evaluation
    is_published = run.protocol == "published"
    reference = published.find_localization(run.method, run.dataset) if is_published else None
    return BoxRow(
        dataset=run.dataset,
        method=run.method,
        title=first.described.title,
        protocol=run.protocol,
        seeds=len(seeds),
        split=first.protocol.split,
        images=first.protocol.images,
        threshold=first.protocol.threshold,
        shares={criterion: _share(criterion, seeds) for criterion in HEADS},
        outcomes={outcome: _outcome_share(outcome, seeds) for outcome in OUTCOMES},
        published={criterion: _published(criterion, reference) for criterion in PUBLISHED},
        source=reference.words if reference else "",
        networks=first.described.networks,
        extra=first.described.extra,
        pretraining=first.described.pretraining,
        parameters=first.described.parameters,
        images_seen=first.described.images_seen,
        software=software([score.evaluation.described.made_with for score in seeds]),
        accepted=reasons(score.accepted for score in seeds),
    )


def _share(criterion: str, seeds: Sequence[BoxScore]) -> Share:
    values = [float(getattr(score.evaluation, criterion)) for score in seeds]
    spread = round(statistics.stdev(values), DIGITS) if len(values) > 1 else None
    return Share(round(statistics.fmean(values), DIGITS), spread)


def _outcome_share(outcome: str, seeds: Sequence[BoxScore]) -> float:
    images = seeds[0].evaluation.protocol.images
    shares = [score.evaluation.outcomes.get(outcome, 0) / images for score in seeds]
    return round(statistics.fmean(shares), DIGITS)


def _published(criterion: str, reference: published.LocalizationReference | None) -> float | None:
    return round(getattr(reference.scores, criterion) / 100, DIGITS) if reference else None


def to_markdown(table: Sequence[BoxRow]) -> str:
    """Return the table with the numbers of the papers and the kinds of failures."""
    with_papers = any(row.source for row in table)
    heads = ["dataset", "method", "protocol", "extra knowledge", *HEADS.values()]
    if with_papers:
        heads += [f"{HEADS[criterion]} published" for criterion in PUBLISHED]
    heads += [f"{head} %" for head in FAILURES.values()] + ["images", "seeds", "networks"]
    differing = [name for name in SOFTWARE if len({row.software[name] for row in table}) > 1]
    heads += differing
    lines = [_line(row, with_papers, differing) for row in table]
    numbers = ["%" in head or head in ("images", "seeds") for head in heads]
    below = [place for place, row in enumerate(table) if row.is_below][:1]
    sources = dict.fromkeys(f"{row.title}: {row.source}" for row in table if row.source)
    notes = [NOTE, *accepted_notes(row.accepted for row in table)]
    return "\n".join([*grid(heads, lines, numbers, below), "", *notes, *sources]) + "\n"


def _line(row: BoxRow, with_papers: bool, differing: Sequence[str]) -> list[str]:
    shares = [
        percent(share.mean) + ("" if share.sd is None else f" ± {percent(share.sd)}")
        for share in row.shares.values()
    ]
    papers = [percent(value) for value in row.published.values()] if with_papers else []
    failures = [percent(row.outcomes[outcome]) for outcome in FAILURES]
    last = [str(row.images), str(row.seeds), row.networks, *(row.software[k] for k in differing)]
    title = row.title + ACCEPTED * bool(row.accepted)
    first = [row.dataset, title, row.protocol, row.extra]
    return [*first, *shares, *papers, *failures, *last]
