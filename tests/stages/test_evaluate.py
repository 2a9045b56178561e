"""Evaluations of archives: treatments of 255, erosion, and the record of both."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_run import make_dataset, make_run

from wsss.data import labelmap
from wsss.data.images import load_mask
from wsss.data.index import Index
from wsss.runs.evaluation import Evaluation, Scoring
from wsss.runs.record import read_record
from wsss.runs.run import Run
from wsss.scores.metrics import confusion, erode, mean_iou, seed
from wsss.settings import EvaluationParams, Params
from wsss.stages.evaluate import evaluate, score_labels
from wsss.storage.archive import Reader, Writer
from wsss.storage.cam_archive import CamReader
from wsss.storage.files import read_json

CLASSES = ("a", "b", "c")


def made(squares: Index, **settings: object) -> tuple[Run, Index]:
    params = Params(evaluation=EvaluationParams(thresholds=10, **settings))
    run = Run(params, "shapes", "cam", "common", 0)
    index = make_dataset(squares, "shapes", params, CLASSES)
    make_run(run, index)
    return run, index


def half_unknown(run: Run, index: Index) -> Path:
    """Write predictions of the validation images whose upper half is 255."""
    path = run.path("half.zip")
    with Writer(path) as writer:
        for entry in index.split("val"):
            labels = load_mask(entry.mask or "").copy()
            labels[: len(labels) // 2] = labelmap.IGNORE
            writer.add(f"{entry.name}.png", labelmap.encode(labels))
    return path


def test_255_in_predictions_is_treated_as_asked_and_coverage_says_how_much(
    work: Path, squares: Index
) -> None:
    run, index = made(squares)
    source, entries = half_unknown(run, index), index.split("val")
    scores = {}
    for unlabelled in ("background", "missed", "excluded"):
        scoring = Scoring(convention="C", unlabelled=unlabelled)
        scores[unlabelled] = score_labels(entries, index, source, scoring)
        assert scores[unlabelled].coverage == 0.5
        assert np.shape(scores[unlabelled].confusion) == (4, 4)
    assert scores["excluded"].miou == 1
    assert scores["excluded"].missed == scores["background"].missed == (0,) * 4
    assert sum(scores["missed"].missed) == sum(e.size[0] // 2 * e.size[1] for e in entries)
    assert all(each.false_positive == 0 for each in scores["missed"].classes)
    assert scores["background"].classes[0].false_positive > 0
    assert len({each.miou for each in scores.values()}) == 3


def test_an_eroded_seed_is_scored_at_every_threshold_and_without_erosion(
    work: Path, squares: Index
) -> None:
    run, index = made(squares, erode_px=5, convention="C", seed_threshold=0.35)
    record = read_json(run.path("eval/seed.json"))
    assert record["protocol"]["erode_px"] == 5
    cams = CamReader(run.path("cam.zip"))
    for side, found in ((5, record), (1, record["uneroded"])):
        for level, miou in [
            (0.35, found["miou"]),
            *zip(found["curve"]["thresholds"], found["curve"]["miou"], strict=True),
        ]:
            counts = np.zeros((4, 4), np.int64)
            for entry in index.split("train"):
                cam = cams[entry.name]
                labels = erode(seed(cam.full(), cam.labels, level), side)
                counts += confusion(load_mask(entry.mask or ""), labels, 4)
            expected = float(mean_iou(counts, "C"))
            assert miou == pytest.approx(expected, abs=1e-6)  # rounded in the file
    assert record["uneroded"]["miou"] != record["miou"]


def test_the_fixed_threshold_is_scored_whether_or_not_the_curve_has_it(
    work: Path, squares: Index
) -> None:
    run, index = made(squares, seed_threshold=0.4)
    record = read_json(run.path("eval/seed.json"))
    curve = dict(zip(record["curve"]["thresholds"], record["curve"]["miou"], strict=True))
    assert record["miou"] == curve[0.4]
    assert record["early_stop"]["miou"] <= record["best"]["miou"]
    assert record["miou_by_convention"]["A"] == record["miou_by_convention"]["D"] == record["miou"]


def test_a_record_answers_every_convention_from_its_matrix(work: Path, squares: Index) -> None:
    run, _ = made(squares, unlabelled="missed")
    record = read_json(run.path("eval/segmentation.json"))
    counts = np.column_stack([record["confusion"], record["missed"]])
    for convention, miou in record["miou_by_convention"].items():
        assert miou == pytest.approx(float(mean_iou(counts, convention)), abs=1e-6)
    evaluate(run, "segmentation")
    assert read_json(run.path("eval/segmentation.json"))["confusion"] == record["confusion"]
    assert len(Reader(run.path("masks.zip")).names()) == record["protocol"]["images"]


def test_the_file_holds_the_evaluation_and_nothing_that_was_not_measured(
    work: Path, squares: Index
) -> None:
    run, _ = made(squares)
    for what in ("seed", "pseudo", "segmentation"):
        path = run.path(f"eval/{what}.json")
        content, evaluation = read_json(path), read_record(path, Evaluation)
        assert (evaluation.run, evaluation.what) == (str(run), what)
        assert json.loads(json.dumps(evaluation.content())).items() <= content.items()
        assert list(evaluation.content()) == list(content)[-len(evaluation.content()) :]
        assert ("early_stop" in content) == (what == "seed")
        assert "context" not in content  # the dataset has no marks
