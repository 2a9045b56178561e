"""From evaluations to results: one row per dataset x method x protocol x stage, over all seeds.

Everything here is plain data in and plain data out; scores are in [0, 1]. `tables` and `figures`
make them readable. Rows can be made from evaluation files alone: `rows([read(path, params), ...])`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wsss.data.index import load_index
from wsss.errors import MissingError, StaleError
from wsss.report.tables import published
from wsss.runs.run import Run, stage_kind
from wsss.runs.staleness import data_record, records
from wsss.scores.bootstrap import gain, read_images
from wsss.settings import Params
from wsss.storage.files import read_json

STAGE_TITLES = {
    "seed": "seed",
    "decode": "own decoder",
    "walk": "random walk",
    "pseudo": "pseudo label",
    "segmentation": "segmentation",
}


def stage_title(what: str) -> str:
    """Return an evaluation in words: that of `seed-pc` is `seed of pc`."""
    own, _, network = what.partition("-")
    return f"{STAGE_TITLES[own]} of {network}" if network else STAGE_TITLES[own]


def stage_order(what: str) -> tuple[int, bool]:
    """Return where an evaluation stands in the flow; that of an earlier network comes first."""
    return list(STAGE_TITLES).index(stage_kind(what)), what == stage_kind(what)


PROTOCOL = ("split", "images", "labels_used", "crf", "convention", "threshold")
REQUIRED = ("miou", "best", "coverage", "classes", "curve", "described")
DIGITS = 6  # kept of a score
BASELINE = "cam"  # the method that gains are measured against


@dataclass(frozen=True)
class Score:
    """One evaluation of one run, as its file says."""

    run: Run
    what: str
    record: dict[str, Any]

    @property
    def group(self) -> tuple[str, str, str, str]:
        """What stays the same over seeds: dataset, method, protocol, stage."""
        return (self.run.dataset, self.run.method, self.run.protocol, self.what)

    @property
    def title(self) -> str:
        """The name of the method, for people."""
        return str(self.record["described"]["title"])


@dataclass(frozen=True)
class Row:
    """One line of the table: a mean over seeds, with the whole protocol it was measured under.

    best_miou: at the threshold that suits the truth best, an oracle; mean over seeds.
    best_thresholds: the smallest and largest of these over seeds. published: the paper's number.
    gain: mIoU above that of the baseline, with a 95 % interval over images.
    """

    dataset: str
    method: str
    title: str
    protocol: str
    stage: str
    miou: float
    sd: float | None
    seeds: int
    best_miou: float | None
    best_thresholds: tuple[float, float] | None
    published: float | None
    source: str
    split: str
    images: int
    supervision: str
    networks: str
    crf: str
    convention: str
    threshold: float | None
    labels_used: bool
    coverage: float
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None

    @property
    def difference(self) -> float | None:
        """Our number minus the published one."""
        return None if self.published is None else round(self.miou - self.published, DIGITS)


def read(path: Path, params: Params) -> Score:
    """Return the evaluation in a file; refuse a number without its protocol."""
    record = read_json(path)
    try:
        score = Score(Run.named(record["run"], params), record["what"], record)
        absent = [key for key in PROTOCOL if key not in record["protocol"]]
        absent += [key for key in REQUIRED if key not in record]
    except (KeyError, TypeError) as error:
        raise MissingError(f"{path} is no evaluation ({error}). Delete it and run again.") from None
    if absent or stage_kind(score.what) not in STAGE_TITLES:
        lack = f"does not say {absent[0]!r}" if absent else f"scores an unknown {score.what!r}"
        raise MissingError(f"{path} {lack}, so it is not printed. Delete it and run again.")
    return score


def collect(runs: Iterable[Run]) -> list[Score]:
    """Return every evaluation of masks of the runs."""
    scores = []
    for run in runs:
        for what in () if run.spec.localizes else run.scored:
            path = run.path(f"eval/{what}.json")
            score = read(path, run.params)
            if (str(score.run), score.what) != (str(run), what):
                raise StaleError(f"{path} is of {score.run} {score.what}. Delete it and run again.")
            scores.append(score)
    return scores


def table_rows(scores: Iterable[Score]) -> list[Row]:
    """Return one row per dataset, method, protocol and stage, in the order of the scores."""
    grouped: dict[tuple[str, ...], list[Score]] = {}
    for score in scores:
        grouped.setdefault(score.group, []).append(score)
    return [_row(group) for group in grouped.values()]


def _row(scores: Sequence[Score]) -> Row:
    """Return the row of one or more seeds; they must have been measured alike."""
    first, run = scores[0], scores[0].run
    protocol = first.record["protocol"]
    for other in scores[1:]:
        if other.record["protocol"] != protocol:
            raise StaleError(
                f"{other.run} {other.what} was measured under another protocol than {run}, so they "
                "have no mean. Run `snakemake` again."
            )
    values = [float(score.record["miou"]) for score in scores]
    best = [score.record["best"] for score in scores if score.record["best"]]
    levels = [float(each["threshold"]) for each in best]
    reference = _published(first)
    return Row(
        *(run.dataset, run.method, first.title, run.protocol, first.what),
        miou=_mean(values),
        sd=round(statistics.stdev(values), DIGITS) if len(values) > 1 else None,
        seeds=len(values),
        best_miou=_mean([float(each["miou"]) for each in best]) if best else None,
        best_thresholds=(min(levels), max(levels)) if levels else None,
        published=round(reference[0].miou / 100, DIGITS) if reference else None,
        source=f"{reference[1].paper}; {reference[1].source}" if reference else "",
        supervision=first.record["described"]["supervision"],
        networks=first.record["described"]["networks"],
        coverage=_mean([float(score.record["coverage"]) for score in scores]),
        **{key: protocol[key] for key in PROTOCOL},
    )


def compared(table: Iterable[Row], scores: Sequence[Score]) -> list[Row]:
    """Return the rows, with their gain over the baseline where it was scored alike on the same images.

    What learns from masks is no rival. Reads the confusions of the images beside the evaluations.
    """
    grouped: dict[tuple[str, ...], list[Score]] = {}
    for score in scores:
        grouped.setdefault(score.group, []).append(score)
    return [_with_gain(row, grouped) for row in table]


def _with_gain(row: Row, grouped: Mapping[tuple[str, ...], Sequence[Score]]) -> Row:
    ours = grouped[row.dataset, row.method, row.protocol, row.stage]
    theirs = grouped.get((row.dataset, BASELINE, row.protocol, row.stage))
    alike = ("split", "images", "convention")
    if row.method == BASELINE or not theirs or ours[0].record["described"]["learns_masks"]:
        return row
    if any(ours[0].record["protocol"][key] != theirs[0].record["protocol"][key] for key in alike):
        return row
    index = load_index(ours[0].run.index)
    names = [entry.name for entry in index.split(row.split) if entry.mask]
    classes = len(index.classes) + 1
    both = [
        [read_images(each.run.path(f"eval/{each.what}.csv"), names, classes) for each in group]
        for group in (ours, theirs)
    ]
    found = gain(both[0], both[1], classes, row.convention)
    low, high = round(found.low, DIGITS), round(found.high, DIGITS)
    return replace(row, gain=round(found.mean, DIGITS), gain_low=low, gain_high=high)


def _mean(values: Sequence[float]) -> float:
    return round(statistics.fmean(values), DIGITS)


def _published(score: Score) -> tuple[published.Value, published.Paper] | None:
    run = score.run
    if run.protocol != "published":
        return None
    split, backbone = score.record["protocol"]["split"], score.record["described"]["backbone"]
    return published.find(run.method, run.dataset, score.what, split, backbone)


def metrics(table: Iterable[Row]) -> dict[str, Any]:
    """Return means over seeds as {dataset: {method: {protocol: {stage: {miou, ...}}}}}."""
    nested: dict[str, Any] = {}
    for row in table:
        chosen = {"miou": row.miou, "sd": row.sd, "best_miou": row.best_miou, "seeds": row.seeds}
        chosen |= {"gain": row.gain, "gain_low": row.gain_low, "gain_high": row.gain_high}
        inner = nested.setdefault(row.dataset, {}).setdefault(row.method, {})
        inner.setdefault(row.protocol, {})[row.stage] = {
            key: value for key, value in chosen.items() if value is not None
        }
    return nested


def seeded(score: Score) -> dict[str, Any]:
    """Return the columns that say which evaluation a line is of."""
    dataset, method, protocol, stage = score.group
    return {
        "dataset": dataset,
        "method": method,
        "protocol": protocol,
        "seed": score.run.seed,
        "stage": stage,
    }


def class_rows(scores: Iterable[Score]) -> list[dict[str, Any]]:
    """Return IoU, precision and recall of every class of every evaluation; none where undefined."""
    return [
        {
            **seeded(score),
            "class": each["name"],
            **{k: each[k] for k in ("iou", "precision", "recall")},
        }
        for score in scores
        for each in score.record["classes"]
    ]


def context_rows(scores: Iterable[Score]) -> list[dict[str, Any]]:
    """Return how high classes with a constant context score on it, and how high on their objects.

    Only datasets with marks of contexts have such numbers.
    """
    return [
        {
            **seeded(score),
            "class": each["name"],
            "context": each["context"],
            "object": each["object"],
            "ratio": round(each["context"] / each["object"], DIGITS) if each["object"] else None,
        }
        for score in scores
        for each in score.record.get("context", ())
    ]


def curve_rows(scores: Iterable[Score]) -> list[dict[str, Any]]:
    """Return mIoU against threshold for every evaluation that has a curve."""
    return [
        {**seeded(score), "threshold": threshold, "miou": miou}
        for score in scores
        if (curve := score.record["curve"])
        for threshold, miou in zip(curve["thresholds"], curve["miou"], strict=True)
    ]


def provenance(runs: Iterable[Run]) -> dict[str, Any]:
    """Return, by dataset and by run and stage, what made each artifact from what."""
    kept = ("code", "params", "seed", "inputs", "outputs", "versions", "device", "wall_s")
    data, made = {}, {}
    for run in runs:
        data[run.dataset] = data_record(run.dataset)
        made[str(run)] = records(run)

    def short(record: dict[str, Any]) -> dict[str, Any]:
        return {key: record.get(key) for key in kept}

    return {
        "data": {dataset: short(record) for dataset, record in data.items()},
        "runs": {
            run: {stage: short(record) for stage, record in stages.items()}
            for run, stages in made.items()
        },
    }
