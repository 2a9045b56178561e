"""Evaluations of archives: treatments of 255, erosion, and the record of both."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_run import make_dataset, make_run

from wsss.data import labelmap
from wsss.data.images import load_mask
from wsss.data.index import Index, save_index
from wsss.data.normalisation import Normalisation
from wsss.nets.backbone import IMAGENET
from wsss.report.tables import long, summary
from wsss.report.tables.rows import read, table_rows
from wsss.runs.evaluation import Evaluation, Scoring
from wsss.runs.record import read_record
from wsss.runs.run import Run
from wsss.scores.metrics import confusion, erode, mean_iou, seed
from wsss.settings import EvaluationParams, Params, PseudoParams, SegmenterTestParams
from wsss.settings.resolve import validate_params
from wsss.stages.evaluate import evaluate, score_labels
from wsss.stages.masks import write_masks
from wsss.stages.pseudo import pseudo
from wsss.storage.archive import Reader, Writer
from wsss.storage.cam_archive import CamReader
from wsss.storage.files import read_json, write_json

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
            for entry in index.scored("train", run.held_out("seed")):
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


def test_masks_are_scored_with_their_crf_and_without(work: Path, squares: Index) -> None:
    pytest.importorskip("pydensecrf")
    run, index = made(squares)
    entries, classes = index.split("val"), len(index.classes) + 1
    test = SegmenterTestParams(scales=(1.0,), mirror=False, crf="deeplab_msc")
    generator = torch.Generator().manual_seed(0)
    logits = {e.name: 2 * torch.randn(1, classes, *e.size, generator=generator) for e in entries}
    results = [([entry], [logits[entry.name]]) for entry in entries]
    with Writer(Path("masks.zip")) as writer:
        write_masks(writer, results, test, Normalisation(*IMAGENET))
    scoring = Scoring(convention="A", unlabelled="background", crf="deeplab_msc")
    scores = score_labels(entries, index, Path("masks.zip"), scoring)
    counts = np.zeros((classes, classes), np.int64)
    for entry in entries:
        labels = logits[entry.name][0].argmax(0).numpy()
        counts += confusion(load_mask(entry.mask or ""), labels, classes)
    assert scores.before_crf is not None
    assert scores.before_crf.miou == pytest.approx(float(mean_iou(counts, "A")), abs=1e-6)
    assert scores.before_crf.miou != scores.miou
    assert len(Reader(Path("masks.zip")).names()) == 2 * len(entries)


def test_pseudo_labels_are_scored_with_their_crf_and_without(work: Path, squares: Index) -> None:
    pytest.importorskip("pydensecrf")
    params = Params(
        evaluation=EvaluationParams(thresholds=10),
        pseudo=PseudoParams(crf="irn_label", threshold=0.4),
    )
    run = Run(params, "shapes", "cam", "common", 0)
    index = make_dataset(squares, "shapes", params, CLASSES)
    make_run(run, index)
    pseudo(run)
    evaluate(run, "pseudo")
    record = read_json(run.path("eval/pseudo.json"))
    walked = read_json(run.path("eval/walk.json"))  # the same maps at the same threshold
    assert record["before_crf"]["miou"] == walked["miou"] != record["miou"]
    (row,) = table_rows([read(run.path("eval/pseudo.json"), params)])
    assert row.miou_before_crf == record["before_crf"]["miou"]
    assert "without CRF %" in long.to_markdown([row])
    (one,) = summary.summaries([row])
    assert one.heads[-1] == "without CRF"


def test_archives_of_an_earlier_version_have_one_number(work: Path, squares: Index) -> None:
    run, index = made(squares)
    scoring = Scoring(convention="A", unlabelled="background", crf="deeplab_msc")
    assert (
        score_labels(index.split("val"), index, run.path("masks.zip"), scoring).before_crf is None
    )


def test_images_without_a_mask_are_counted(work: Path, squares: Index) -> None:
    run, index = made(squares)
    whole = read_json(run.path("eval/segmentation.json"))["protocol"]
    bare = index.split("val")[0].name
    images = (replace(image, mask=None) if image.name == bare else image for image in index.images)
    save_index(replace(index, images=tuple(images)), run.index)
    evaluate(run, "segmentation")
    protocol = read_json(run.path("eval/segmentation.json"))["protocol"]
    assert (whole["images"], whole["unscored"]) == (6, 0)
    assert (protocol["images"], protocol["unscored"]) == (5, 1)
    assert whole["data"] != protocol["data"]


def test_the_protocol_has_the_views_and_how_thresholds_were_chosen(
    work: Path, squares: Index
) -> None:
    run, _ = made(squares)
    protocols = {
        what: read_json(run.path(f"eval/{what}.json"))["protocol"]
        for what in ("seed", "pseudo", "segmentation")
    }
    params = run.settings
    for what, test in (("seed", params.cam), ("pseudo", params.cam)):
        assert protocols[what]["scales"] == list(test.scales)
    assert protocols["segmentation"]["scales"] == list(params.segmenter.test.scales)
    assert protocols["segmentation"]["mirror"] == params.segmenter.test.mirror
    choices = {protocol["threshold_choice"] for protocol in protocols.values()}
    assert choices == {"calibrated"}


def test_a_papers_threshold_is_called_published(squares: Index) -> None:
    run = Run(Params(), "voc12", "cam", "published", 0)
    assert {
        Scoring.of(run, what).threshold_choice
        for what in ("seed", "walk", "pseudo", "segmentation")
    } == {"published"}
    settings = {"evaluation": {"seed_threshold": 0.33}}
    upper_bound = Run(Params(), "voc12", "supervised", "common", 0)
    assert Scoring.of(upper_bound, "segmentation").threshold_choice == "none"
    changed = {"overrides": {"x": {"method": "cam", "protocol": "published", "set": settings}}}
    assert (
        Scoring.of(replace(run, params=validate_params(changed)), "seed").threshold_choice
        == "fixed"
    )


def test_an_evaluation_has_the_size_the_training_and_the_software_of_its_networks(
    work: Path, squares: Index
) -> None:
    run, _ = made(squares)
    trainings = {"classifier": (1000, 240, "bf16"), "affinity": (500, 100, "bf16")}
    for stage, (parameters, images, precision) in trainings.items():
        path = run.path(f"{stage}.json")
        more = {"parameters": parameters, "images_seen": images, "precision": precision}
        write_json(path, {**read_json(path), **more, "device": "H100"})
    for what, expected in (
        ("seed", (1000, 240)),
        ("walk", (1500, 340)),
        ("segmentation", (None, None)),
    ):
        evaluate(run, what)
        described = read_json(run.path(f"eval/{what}.json"))["described"]
        assert (described["parameters"], described["images_seen"]) == expected
    evaluate(run, "walk")
    made_with = read_json(run.path("eval/walk.json"))["described"]["made_with"]
    assert (made_with["device"], made_with["precision"]) == (["H100"], ["bf16"])
    assert made_with["numpy"] == [np.__version__]
