"""From evaluations to results: one row per dataset, method, protocol and stage, over all seeds.

Scores are in [0, 1]; the other modules of this folder turn rows into text. Rows can be made from
evaluation files alone: `table_rows([read(path, params), ...])`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wsss.data.index import load_index
from wsss.errors import MissingError, StaleError
from wsss.report.tables import published
from wsss.runs.evaluation import Evaluation, Protocol
from wsss.runs.record import Record, read_record
from wsss.runs.run import Run, stage_kind
from wsss.runs.staleness import data_record, records
from wsss.scores.bootstrap import gain, read_images
from wsss.settings import Params

STAGE_TITLES = {
    "seed": "seed",
    "decode": "own decoder",
    "walk": "random walk",
    "pseudo": "pseudo label",
    "segmentation": "segmentation",
}


def stage_title(what: str) -> str:
    """Return an evaluation in words, such as `seed of pc` for `seed-pc`."""
    kind, _, network = what.partition("-")
    return f"{STAGE_TITLES[kind]} of {network}" if network else STAGE_TITLES[kind]


def stage_order(what: str) -> tuple[int, bool]:
    """Return the sort key of an evaluation: the order of stages, and earlier networks first."""
    return list(STAGE_TITLES).index(stage_kind(what)), what == stage_kind(what)


DIGITS = 6  # decimals of a score
BASELINE = "cam"  # the method that gains are measured against

Group = tuple[str, str, str, str]  # dataset, method, protocol, stage


@dataclass(frozen=True)
class Score:
    """One evaluation with its run."""

    run: Run
    evaluation: Evaluation

    @property
    def what(self) -> str:
        """The scored stage, such as `seed` or `seed-pc`."""
        return self.evaluation.what

    @property
    def protocol(self) -> Protocol:
        """What the scores were measured under."""
        return self.evaluation.protocol

    @property
    def group(self) -> Group:
        """Dataset, method, protocol and stage: the evaluations of all seeds share them."""
        return (self.run.dataset, self.run.method, self.run.protocol, self.what)

    @property
    def title(self) -> str:
        """The name of the method, for people."""
        return self.evaluation.described.title


@dataclass(frozen=True)
class Row:
    """One line of the table: a mean over seeds, with the whole protocol it was measured under.

    sd: standard deviation over seeds. best_miou: mean over seeds of the mIoU at the best threshold,
    an oracle. best_thresholds: the smallest and the largest best threshold. published: the paper's
    number. gain: mIoU minus the mIoU of the baseline, with a 95 % interval over images.
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
        """The measured mIoU minus the published one."""
        return None if self.published is None else round(self.miou - self.published, DIGITS)


def read(path: Path, params: Params) -> Score:
    """Return the evaluation in a file; refuse a number without its protocol."""
    evaluation = read_record(path, Evaluation, "an evaluation of masks")
    if stage_kind(evaluation.what) not in STAGE_TITLES:
        raise MissingError(
            f"{path} scores an unknown {evaluation.what!r}, so it is not printed. Delete it and run "
            "again."
        )
    return Score(Run.named(evaluation.run, params), evaluation)


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
    return [_row(seeds) for seeds in _grouped(scores).values()]


def _grouped(scores: Iterable[Score]) -> dict[Group, list[Score]]:
    """Return the evaluations of all seeds by what they share."""
    grouped: dict[Group, list[Score]] = {}
    for score in scores:
        grouped.setdefault(score.group, []).append(score)
    return grouped


def _row(seeds: Sequence[Score]) -> Row:
    """Return the row of one or more seeds; all must have been measured alike."""
    first = seeds[0]
    _check_same_protocol(seeds)
    values = [score.evaluation.miou for score in seeds]
    best = [score.evaluation.best for score in seeds if score.evaluation.best]
    levels = [threshold_score.threshold for threshold_score in best]
    reference = _published(first)
    return Row(
        *(first.run.dataset, first.run.method, first.title, first.run.protocol, first.what),
        miou=_mean(values),
        sd=round(statistics.stdev(values), DIGITS) if len(values) > 1 else None,
        seeds=len(values),
        best_miou=_mean([threshold_score.miou for threshold_score in best]) if best else None,
        best_thresholds=(min(levels), max(levels)) if levels else None,
        published=round(reference.value.miou / 100, DIGITS) if reference else None,
        source=reference.words if reference else "",
        split=first.protocol.split,
        images=first.protocol.images,
        supervision=first.evaluation.described.supervision,
        networks=first.evaluation.described.networks,
        crf=first.protocol.crf,
        convention=first.protocol.convention,
        threshold=first.protocol.threshold,
        labels_used=first.protocol.labels_used,
        coverage=_mean([score.evaluation.coverage for score in seeds]),
    )


def _check_same_protocol(seeds: Sequence[Score]) -> None:
    first = seeds[0]
    for other in seeds[1:]:
        if other.protocol != first.protocol:
            raise StaleError(
                f"{other.run} {other.what} was measured under another protocol than {first.run}, so "
                "they have no mean. Run `snakemake` again."
            )


def compared(table: Iterable[Row], scores: Sequence[Score]) -> list[Row]:
    """Return the rows with their gain over the baseline, if it was scored alike on the same images.

    A method that learns from masks is not compared. The confusion matrices of the images are read
    from the files beside the evaluations.
    """
    grouped = _grouped(scores)
    return [_with_gain(row, grouped) for row in table]


def _with_gain(row: Row, grouped: Mapping[Group, Sequence[Score]]) -> Row:
    method = grouped[row.dataset, row.method, row.protocol, row.stage]
    baseline = grouped.get((row.dataset, BASELINE, row.protocol, row.stage))
    if row.method == BASELINE or not baseline or method[0].evaluation.described.learns_masks:
        return row
    if not _is_comparable(method[0].protocol, baseline[0].protocol):
        return row
    index = load_index(method[0].run.index)
    held_out = method[0].run.held_out(row.stage)
    names = [entry.name for entry in index.scored(row.split, held_out)]
    classes = len(index.classes) + 1
    method_images, baseline_images = (
        [read_images(score.run.path(f"eval/{score.what}.csv"), names, classes) for score in seeds]
        for seeds in (method, baseline)
    )
    interval = gain(method_images, baseline_images, classes, row.convention)
    low, high = round(interval.low, DIGITS), round(interval.high, DIGITS)
    return replace(row, gain=round(interval.mean, DIGITS), gain_low=low, gain_high=high)


def _is_comparable(first: Protocol, second: Protocol) -> bool:
    """Return whether two scores average the same classes over the same images."""
    same_images = (first.split, first.images) == (second.split, second.images)
    return same_images and first.convention == second.convention


def _mean(values: Sequence[float]) -> float:
    return round(statistics.fmean(values), DIGITS)


def _published(score: Score) -> published.Reference | None:
    run = score.run
    if run.protocol != "published":
        return None
    split, backbone = score.protocol.split, score.evaluation.described.backbone
    return published.find(run.method, run.dataset, score.what, split, backbone)


def metrics(table: Iterable[Row]) -> dict[str, dict[str, dict[str, dict[str, dict[str, float]]]]]:
    """Return means over seeds as {dataset: {method: {protocol: {stage: {miou, ...}}}}}."""
    nested: dict[str, dict[str, dict[str, dict[str, dict[str, float]]]]] = {}
    for row in table:
        values = {"miou": row.miou, "sd": row.sd, "best_miou": row.best_miou, "seeds": row.seeds}
        values |= {"gain": row.gain, "gain_low": row.gain_low, "gain_high": row.gain_high}
        stages = nested.setdefault(row.dataset, {}).setdefault(row.method, {})
        stages.setdefault(row.protocol, {})[row.stage] = {
            key: value for key, value in values.items() if value is not None
        }
    return nested


Line = dict[str, object]  # one line of a CSV, by its heads


def evaluation_columns(score: Score) -> Line:
    """Return the columns that name the evaluation of a line."""
    dataset, method, protocol, stage = score.group
    return {
        "dataset": dataset,
        "method": method,
        "protocol": protocol,
        "seed": score.run.seed,
        "stage": stage,
    }


def class_rows(scores: Iterable[Score]) -> list[Line]:
    """Return IoU, precision and recall of every class of every evaluation; None where undefined."""
    return [
        {
            **evaluation_columns(score),
            "class": class_scores.name,
            "iou": class_scores.iou,
            "precision": class_scores.precision,
            "recall": class_scores.recall,
        }
        for score in scores
        for class_scores in score.evaluation.classes
    ]


def context_rows(scores: Iterable[Score]) -> list[Line]:
    """Return the mean CAM score of classes on their constant context, and on their objects.

    Only datasets with marks of contexts have such numbers.
    """
    return [
        {
            **evaluation_columns(score),
            "class": mean.name,
            "context": mean.context,
            "object": mean.object,
            "ratio": round(mean.context / mean.object, DIGITS) if mean.object else None,
        }
        for score in scores
        for mean in score.evaluation.context
    ]


def curve_rows(scores: Iterable[Score]) -> list[Line]:
    """Return mIoU against threshold for every evaluation that has a curve."""
    return [
        {**evaluation_columns(score), "threshold": threshold, "miou": miou}
        for score in scores
        if (curve := score.evaluation.curve)
        for threshold, miou in zip(curve.thresholds, curve.miou, strict=True)
    ]


def provenance(runs: Iterable[Run]) -> dict[str, object]:
    """Return the record of every artifact, by dataset, and by run and stage."""
    data, stages = {}, {}
    for run in runs:
        data[run.dataset] = _record_fields(data_record(run.dataset))
        stages[str(run)] = {name: _record_fields(record) for name, record in records(run).items()}
    return {"data": data, "runs": stages}


def _record_fields(record: Record) -> dict[str, object]:
    """Return the fields of a record that the provenance shows, in their order."""
    return {
        "code": record.code,
        "params": record.params,
        "seed": record.seed,
        "inputs": record.inputs,
        "outputs": record.outputs,
        "versions": record.versions,
        "device": record.device,
        "wall_s": record.wall_s,
    }
