"""Score boxes: whether class and place of an image are right, and how wrong answers fail."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from wsss.data.index import Entry, load_index
from wsss.progress import log, progress
from wsss.runs.describe import described
from wsss.runs.evaluation import BoxEvaluation, BoxProtocol
from wsss.runs.inputs import index_files, index_parts
from wsss.runs.record import Recorder
from wsss.runs.run import Run
from wsss.scores.boxes import OUTCOMES, Answer, score, true_boxes
from wsss.storage.archive import Reader, unpack_arrays
from wsss.storage.files import write_text

HEADS = ("image", "top1", "top5", "gt_known", "top1_class", "top5_class", "outcome")


def evaluate_boxes(run: Run) -> None:
    """Write `eval/boxes.json`: the share of images by criterion, and the counts of outcomes.

    `eval/boxes.csv` beside it has a line for every image.
    """
    stage, source = "eval/boxes", run.path("boxes.zip")
    index = load_index(run.index, *index_parts(run, stage))
    record = Recorder(stage, run.slice(stage), run.code(stage), run.seed)
    reader = Reader(source)
    entries = index.of_one_class("val")
    answers = []
    for entry in progress(entries, "evaluate boxes"):
        arrays = unpack_arrays(reader.read(f"{entry.name}.npz"))
        true = true_boxes(entry, index, int(arrays["side"]))
        label = index.numbers(entry.labels)[0]
        classes, boxes = arrays["classes"].tolist(), arrays["boxes"].tolist()
        answers.append(score(label, classes, boxes, arrays["own"].tolist(), true))
    by_image = run.path(f"{stage}.csv")
    write_images(by_image, entries, answers)
    evaluation = _evaluation(run, answers)
    inputs = [*index_files(run, stage), source]
    record.write(run.path(f"{stage}.json"), inputs, [by_image], **evaluation.content())
    log.info(
        "localization of %s: Top-1 %.3f, GT-known %.3f on %d images",
        run,
        evaluation.top1,
        evaluation.gt_known,
        len(answers),
    )


def write_images(path: Path, entries: Iterable[Entry], answers: Iterable[Answer]) -> None:
    """Write a line for each image: which criteria it meets (0 or 1), and its outcome."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADS)
    for entry, answer in zip(entries, answers, strict=True):
        met = (answer.top1, answer.top5, answer.gt_known, answer.top1_class, answer.top5_class)
        writer.writerow((entry.name, *map(int, met), answer.outcome))
    write_text(path, text.getvalue())


def _evaluation(run: Run, answers: Sequence[Answer]) -> BoxEvaluation:
    """Return the share of images that meet each criterion, and how many have each outcome."""
    outcomes = Counter(answer.outcome for answer in answers)
    threshold = run.settings.boxes.threshold
    return BoxEvaluation(
        run=str(run),
        what="boxes",
        protocol=BoxProtocol(split="val", images=len(answers), threshold=threshold),
        top1=_share(answer.top1 for answer in answers),
        top5=_share(answer.top5 for answer in answers),
        gt_known=_share(answer.gt_known for answer in answers),
        top1_class=_share(answer.top1_class for answer in answers),
        top5_class=_share(answer.top5_class for answer in answers),
        outcomes={name: outcomes[name] for name in OUTCOMES},
        described=described(run, "boxes"),
    )


def _share(met: Iterable[bool]) -> float:
    images = list(met)
    return round(sum(images) / len(images), 6)
