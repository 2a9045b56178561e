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
from wsss.report.tables import alike, published
from wsss.runs.acceptance import acceptances
from wsss.runs.chain import digest
from wsss.runs.evaluation import Description, Evaluation, Protocol
from wsss.runs.knowledge import is_more_than_labels
from wsss.runs.occasion import read_occasion
from wsss.runs.origin import Origin
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
ACCEPTED = "‡"  # of rows whose results of earlier code a person has accepted
SOFTWARE = ("torch", "timm", "numpy", "pillow", "pydensecrf2", "device", "precision")

Group = tuple[str, str, str, str]  # dataset, method, protocol, stage


@dataclass(frozen=True)
class Score:
    """One evaluation with its run and its file."""

    run: Run
    evaluation: Evaluation
    path: Path
    accepted: tuple[str, ...] = ()  # why results of earlier code count

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
    an oracle. threshold, best_thresholds: the smallest and the largest of all seeds. published: the
    paper's number. gain: mIoU minus the mIoU of the baseline, with a 95 % interval over seeds and
    images if both have several runs; gain_by_seed: the same of each seed. extra, pretraining,
    parameters, images_seen: as in `Description`. settings: digest of the settings of all stages.
    accepted: why results of earlier code count. torch to precision: the versions, devices and
    precisions that the row was made with.
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
    threshold: tuple[float, float] | None
    labels_used: bool
    coverage: float
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    gain_by_seed: tuple[float, ...] | None = None
    miou_before_crf: float | None = None
    extra: str = ""
    pretraining: str = ""
    parameters: int | None = None
    images_seen: int | None = None
    scales: str = ""
    mirror: str = ""
    threshold_choice: str = "fixed"
    calibration_images: int = 0
    unlabelled: str = ""
    erode_px: int = 0
    unscored: int = 0
    data: str = ""
    settings: str = ""
    accepted: str = ""
    torch: str = ""
    timm: str = ""
    numpy: str = ""
    pillow: str = ""
    pydensecrf2: str = ""
    device: str = ""
    precision: str = ""

    @property
    def difference(self) -> float | None:
        """The measured mIoU minus the published one."""
        return None if self.published is None else round(self.miou - self.published, DIGITS)

    @property
    def is_below(self) -> bool:
        """Whether the row stands below the line: it has learned from more than image labels."""
        return any(map(is_more_than_labels, (self.extra, self.supervision)))


def ordered(table: Iterable[Row]) -> list[Row]:
    """Return rows by dataset; those that have learned from more than image labels come last."""
    rows = list(table)
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    return sorted(rows, key=lambda row: (datasets.index(row.dataset), row.is_below))


def read(path: Path, params: Params) -> Score:
    """Return the evaluation in a file; refuse a number without its protocol."""
    evaluation = read_record(path, Evaluation, "an evaluation of masks")
    if stage_kind(evaluation.what) not in STAGE_TITLES:
        raise MissingError(
            f"{path} scores an unknown {evaluation.what!r}, so it is not printed. Delete it and run "
            "again."
        )
    return Score(Run.named(evaluation.run, params), evaluation, path)


def collect(runs: Iterable[Run]) -> list[Score]:
    """Return every evaluation of masks of the runs."""
    return [
        score_of(run, what) for run in runs for what in (() if run.spec.localizes else run.scored)
    ]


def score_of(run: Run, what: str) -> Score:
    """Return one evaluation of masks of a run."""
    path = run.path(f"eval/{what}.json")
    score = read(path, run.params)
    if (str(score.run), score.what) != (str(run), what):
        raise StaleError(f"{path} is of {score.run} {score.what}. Delete it and run again.")
    return replace(score, run=run, accepted=accepted_reasons(run, f"eval/{what}"))


def accepted_reasons(run: Run, stage: str) -> tuple[str, ...]:
    """Return why results of earlier code count as the present ones, for a stage and all before it."""
    accepted = (item for items in acceptances(run, stage).values() for item in items)
    return tuple(dict.fromkeys(item.because for item in accepted))


def reasons(seeds: Iterable[tuple[str, ...]]) -> str:
    """Return the reasons of all seeds, each once."""
    return "; ".join(dict.fromkeys(reason for accepted in seeds for reason in accepted))


def table_rows(scores: Iterable[Score]) -> list[Row]:
    """Return one row per dataset, method, protocol and stage; see `ordered` for their order.

    Raises:
        StaleError: seeds of a row have other settings or another protocol, or rows of a dataset were
            scored on other images or masks.
    """
    grouped = _grouped(scores)
    for seeds in grouped.values():
        for other in seeds[1:]:
            alike.check_seeds(seeds[0], other)
    alike.check_data([seeds[0] for seeds in grouped.values()])
    return ordered(_row(seeds) for seeds in grouped.values())


def _grouped(scores: Iterable[Score]) -> dict[Group, list[Score]]:
    """Return the evaluations of all seeds by what they share."""
    grouped: dict[Group, list[Score]] = {}
    for score in scores:
        grouped.setdefault(score.group, []).append(score)
    return grouped


def _row(seeds: Sequence[Score]) -> Row:
    """Return the row of one or more seeds."""
    first = seeds[0]
    protocol, described = first.protocol, first.evaluation.described
    values = [score.evaluation.miou for score in seeds]
    best = [score.evaluation.best for score in seeds if score.evaluation.best]
    rough = [score.evaluation.before_crf.miou for score in seeds if score.evaluation.before_crf]
    reference = _published(first)
    row = Row(
        *(first.run.dataset, first.run.method, first.title, first.run.protocol, first.what),
        miou=_mean(values),
        sd=round(statistics.stdev(values), DIGITS) if len(values) > 1 else None,
        seeds=len(values),
        best_miou=_mean([threshold_score.miou for threshold_score in best]) if best else None,
        best_thresholds=_range([threshold_score.threshold for threshold_score in best]),
        published=round(reference.value.miou / 100, DIGITS) if reference else None,
        source=reference.words if reference else "",
        split=protocol.split,
        images=protocol.images,
        supervision=described.supervision,
        networks=described.networks,
        crf=protocol.crf,
        convention=protocol.convention,
        threshold=_range([s.protocol.threshold for s in seeds if s.protocol.threshold is not None]),
        labels_used=protocol.labels_used,
        coverage=_mean([score.evaluation.coverage for score in seeds]),
        miou_before_crf=_mean(rough) if len(rough) == len(seeds) else None,
        accepted=reasons(score.accepted for score in seeds),
    )
    return _with_software(_with_description(_with_protocol(row, protocol), described), seeds)


def _with_protocol(row: Row, protocol: Protocol) -> Row:
    """Return a row with the parts of its protocol that old files lack."""
    return replace(
        row,
        scales=" ".join(f"{scale:g}" for scale in protocol.scales),
        mirror={True: "yes", False: "no", None: ""}[protocol.mirror],
        threshold_choice=protocol.threshold_choice,
        calibration_images=protocol.calibration_images,
        unlabelled=protocol.unlabelled or "",
        erode_px=protocol.erode_px,
        unscored=protocol.unscored,
        data=protocol.data,
    )


def _with_description(row: Row, described: Description) -> Row:
    """Return a row with what its networks have learned from, their size, and its settings."""
    return replace(
        row,
        extra=described.extra,
        pretraining=described.pretraining,
        parameters=described.parameters,
        images_seen=described.images_seen,
        settings=digest(described.settings),
    )


def _with_software(row: Row, seeds: Sequence[Score]) -> Row:
    """Return a row with the versions, devices and precisions of all seeds."""
    used = software([score.evaluation.described.made_with for score in seeds])
    return replace(
        row,
        torch=used["torch"],
        timm=used["timm"],
        numpy=used["numpy"],
        pillow=used["pillow"],
        pydensecrf2=used["pydensecrf2"],
        device=used["device"],
        precision=used["precision"],
    )


def software(made_with: Sequence[Mapping[str, Sequence[str]]]) -> dict[str, str]:
    """Return the versions, devices and precisions of all seeds in words, by the field of a row."""
    return {
        name: ", ".join(sorted({value for values in made_with for value in values.get(name, ())}))
        for name in SOFTWARE
    }


def _range(values: Sequence[float]) -> tuple[float, float] | None:
    return (min(values), max(values)) if values else None


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
        {s.run.seed: read_images(s.path.with_suffix(".csv"), names, classes) for s in seeds}
        for seeds in (method, baseline)
    )
    difference = gain(method_images, baseline_images, classes, row.convention)
    low, high = difference.interval or (None, None)
    return replace(
        row,
        gain=round(difference.mean, DIGITS),
        gain_low=None if low is None else round(low, DIGITS),
        gain_high=None if high is None else round(high, DIGITS),
        gain_by_seed=tuple(round(value, DIGITS) for value in difference.by_seed) or None,
    )


def _is_comparable(first: Protocol, second: Protocol) -> bool:
    """Return whether two scores average the same classes over the same images."""
    parts = ((p.split, p.images, p.data, p.convention) for p in (first, second))
    return len(set(parts)) == 1


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
        values |= {"miou_before_crf": row.miou_before_crf}
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


def provenance(runs: Iterable[Run], table: Iterable[Row] = ()) -> dict[str, object]:
    """Return the record of every artifact, by dataset, and by run and stage.

    `made_with` has, by run, what its stages ran on: commit, lock, CUDA, driver and packages.
    `differences` has the versions, devices and precisions that are not the same in all rows of a
    dataset: the rows by value, by name, by dataset.
    """
    data, stages, made_with = {}, {}, {}
    for run in runs:
        data[run.dataset] = _record_fields(data_record(run.dataset))
        of_run = records(run)
        stages[str(run)] = {name: _record_fields(record) for name, record in of_run.items()}
        made_with[str(run)] = _made_with(run, of_run)
    return {
        "data": data,
        "runs": stages,
        "made_with": made_with,
        "differences": differing_software(table),
    }


def _made_with(run: Run, stages: Mapping[str, Record]) -> list[dict[str, object]]:
    """Return what the stages of a run ran on, once for all stages that share it."""
    groups: list[dict[str, object]] = []
    names: list[list[str]] = []
    for stage, record in stages.items():
        occasion = read_occasion(run.path(f"{stage}.json"), record.digest)
        place = {
            "commit": occasion.commit,
            "dirty": occasion.dirty,
            **(record.origin or Origin()).model_dump(),
            "versions": record.versions,
        }
        if place not in groups:
            groups.append(place)
            names.append([])
        names[groups.index(place)].append(stage)
    return [{"stages": used, **place} for used, place in zip(names, groups, strict=True)]


def differing_software(table: Iterable[Row]) -> dict[str, dict[str, dict[str, list[str]]]]:
    """Return {dataset: {version, device or precision: {value: rows}}} where a dataset has several."""
    groups: dict[str, dict[str, dict[str, list[str]]]] = {}
    for row in table:
        for name in SOFTWARE:
            if value := getattr(row, name):
                rows = groups.setdefault(row.dataset, {}).setdefault(name, {})
                rows.setdefault(value, []).append(f"{row.method}/{row.protocol}/{row.stage}")
    several = {
        dataset: {name: values for name, values in names.items() if len(values) > 1}
        for dataset, names in groups.items()
    }
    return {dataset: names for dataset, names in several.items() if names}


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
        **({"accepted": [a.model_dump() for a in record.accepted]} if record.accepted else {}),
    }
