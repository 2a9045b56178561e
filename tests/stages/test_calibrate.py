"""Thresholds chosen by the masks of a few training images, which no score of training images counts."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answer import wsss
from made_run import make_dataset, make_run, make_stages

from wsss.data.images import load_mask
from wsss.data.index import Entry, Index, load_index
from wsss.report.tables.rows import collect, table_rows
from wsss.runs.calibration import affinity_label_params, pseudo_params, seed_threshold
from wsss.runs.run import Run
from wsss.scores.metrics import confusion, mean_iou, seed
from wsss.settings import method_spec
from wsss.settings.resolve import resolve_settings, validate_params
from wsss.settings.thresholds import IRNET, published_thresholds, sure_levels
from wsss.storage.cam_archive import CamReader
from wsss.storage.files import read_json, write_json

CLASSES = ("a", "b", "c")


def made(squares: Index, seeds: int = 1, **settings: Any) -> list[Run]:
    """Make runs of CAM on shapes, with calibrations and evaluations by the real stages."""
    params = validate_params({"seeds": list(range(seeds)), "methods": ["cam"], **settings})
    index = make_dataset(squares, "shapes", params, CLASSES)
    runs = [Run(params, "shapes", "cam", "common", number) for number in range(seeds)]
    for run in runs:
        make_run(run, index)
    return runs


def without_masks(index: Index) -> Index:
    images = (i if i.split == "val" else replace(i, mask=None) for i in index.images)
    return Index(index.dataset, index.classes, tuple(images))


def miou(run: Run, maps: str, entries: list[Entry], level: float) -> float:
    counts, cams = np.zeros((4, 4), np.int64), CamReader(run.path(f"{maps}.zip"))
    for entry in entries:
        cam = cams[entry.name]
        counts += confusion(load_mask(entry.mask or ""), seed(cam.full(), cam.labels, level), 4)
    return float(mean_iou(counts, "A"))


@pytest.mark.parametrize("maps", ["cam", "walk"])
def test_the_threshold_is_the_best_one_on_images_that_no_score_counts(
    work: Path, squares: Index, maps: str
) -> None:
    [run] = made(squares)
    index = load_index(run.index)
    chosen = read_json(run.path(f"thresholds-{maps}.json"))
    entries = index.calibration(100)
    assert 0 < len(entries) == chosen["images"] <= len(index.split("train")) / 4
    scores = [miou(run, maps, entries, level / 100) for level in range(100)]
    assert chosen["curve"] == pytest.approx(scores, abs=1e-6)
    assert chosen["threshold"] == int(np.argmax(scores)) / 100
    for what in ("seed", "walk", "pseudo"):
        with run.path(f"eval/{what}.csv").open() as file:
            counted = {row["image"] for row in csv.DictReader(file)}
        assert counted == {e.name for e in index.split("train")} - {e.name for e in entries}
        protocol = read_json(run.path(f"eval/{what}.json"))["protocol"]
        assert (protocol["images"], protocol["unscored"]) == (len(counted), 0)
        assert protocol["threshold_choice"] == "calibrated"
        assert protocol["calibration_images"] == len(entries)


def test_every_stage_uses_the_calibrated_thresholds(work: Path, squares: Index) -> None:
    [run] = made(squares)
    of_cams, of_walk = (read_json(run.path(f"thresholds-{m}.json")) for m in ("cam", "walk"))
    labels = affinity_label_params(run)
    assert (labels.foreground, labels.background) == sure_levels(of_cams["threshold"])
    assert pseudo_params(run).threshold == of_walk["threshold"]
    assert seed_threshold(run) == of_cams["threshold"]
    protocols = {w: read_json(run.path(f"eval/{w}.json"))["protocol"] for w in ("seed", "walk")}
    assert protocols["seed"]["threshold"] == of_cams["threshold"]
    assert protocols["walk"]["threshold"] == of_walk["threshold"]
    segmentation = read_json(run.path("eval/segmentation.json"))["protocol"]
    assert segmentation["threshold"] is None
    assert segmentation["threshold_choice"] == "calibrated"


def test_a_number_that_a_person_wrote_is_used_and_nothing_is_calibrated_for_it(
    work: Path, squares: Index
) -> None:
    [run] = made(
        squares,
        evaluation={"seed_threshold": 0.31},
        pseudo={"threshold": 0.32},
        affinity={"confident": {"foreground": 0.6, "background": 0.1}},
    )
    assert not [stage for stage in run.stages() if stage.startswith("calibrate")]
    protocol = read_json(run.path("eval/seed.json"))["protocol"]
    assert (protocol["threshold"], protocol["threshold_choice"]) == (0.31, "fixed")
    assert affinity_label_params(run).foreground == 0.6
    assert pseudo_params(run).threshold == 0.32
    held_out = len(load_index(run.index).calibration(100))
    assert protocol["images"] == len(squares.split("train")) - held_out  # as for calibrated rows


@pytest.mark.parametrize("short", [True, False])
def test_without_calibration_thresholds_are_published_and_every_image_counts(
    work: Path, squares: Index, short: bool
) -> None:
    [run] = made(squares, calibration="none" if short else {"by": "none"})
    assert not [stage for stage in run.stages() if stage.startswith("calibrate")]
    protocol = read_json(run.path("eval/seed.json"))["protocol"]
    assert (protocol["threshold"], protocol["threshold_choice"]) == (IRNET.seed, "published")
    assert protocol["images"] == len(squares.split("train"))
    assert affinity_label_params(run).foreground == IRNET.foreground


def test_data_without_training_masks_take_the_published_thresholds(
    work: Path, squares: Index
) -> None:
    params = validate_params({"methods": ["mctformer"], "calibration": {"images": 3}})
    write_json(Path("params.yaml"), {"methods": ["mctformer"], "calibration": {"images": 3}})
    run = Run(params, "shapes", "mctformer", "common", 0)
    index = without_masks(squares)
    make_dataset(index, "shapes", params, CLASSES)
    make_stages(run, squares, ["classifier", "cam"])
    wsss("calibrate", str(run), "cam").accepts()
    chosen = read_json(run.path("thresholds-cam.json"))
    assert chosen["choice"] == "published"
    assert (chosen["threshold"], chosen["images"]) == (0.39, 0)
    assert (chosen["foreground"], chosen["background"]) == (0.54, 0.29)


def test_seeds_have_thresholds_of_their_own_and_one_row(work: Path, squares: Index) -> None:
    runs = made(squares, seeds=3)
    for run in runs:
        assert (run.settings.evaluation.seed_threshold, run.settings.pseudo.threshold) == (
            "calibrated",
            "calibrated",
        )
    row = table_rows(collect(runs))[0]
    levels = [read_json(run.path("thresholds-cam.json"))["threshold"] for run in runs]
    assert row.threshold == (min(levels), max(levels))
    assert row.threshold_choice == "calibrated"


def test_the_calibration_part_stays_when_other_images_come_and_go(squares: Index) -> None:
    images = squares.images
    many = tuple(replace(image, name=f"{image.name}-{k}") for k in range(30) for image in images)
    index = Index("shapes", squares.classes, many)
    part = {entry.name for entry in index.calibration(40)}
    assert len(part) == 40
    fewer = Index("shapes", squares.classes, tuple(i for i in many if not i.name.endswith("-7")))
    remaining = {name for name in part if not name.endswith("-7")}
    assert remaining <= {entry.name for entry in fewer.calibration(40)}
    assert all(entry.mask and entry.split == "train" for entry in index.calibration(40))


def test_published_runs_keep_each_paper_s_numbers() -> None:
    for method in method_spec.methods():
        spec = method_spec.spec(method)
        if not spec.published:
            continue
        params = validate_params({"methods": [method], "protocols": ["published"]})
        settings = resolve_settings(params, "voc12", method, "published")
        labels, numbers = (
            settings.affinity.confident,
            published_thresholds(method_spec.spec(method)),
        )
        used = [settings.evaluation.seed_threshold, settings.pseudo.threshold]
        assert used == [numbers.seed, numbers.pseudo]
        assert not {"calibrated"} & {labels.foreground, labels.background}
        assert not [
            s for s in Run(params, "voc12", method, "published", 0).stages() if "calib" in s
        ]


@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.15, 0.4, 0.7, 0.99])
def test_affinity_labels_have_irnet_s_distances_and_stay_in_order(threshold: float) -> None:
    foreground, background = sure_levels(threshold)
    assert 0 <= background <= threshold < foreground < 1
    if threshold == IRNET.seed:
        assert (foreground, background) == (IRNET.foreground, IRNET.background)
    if threshold == 0.4:
        assert (foreground, background) == (0.55, 0.3)


def test_a_missing_calibration_is_named_with_its_command(work: Path, squares: Index) -> None:
    [run] = made(squares)
    write_json(Path("params.yaml"), {"methods": ["cam"]})
    run.path("thresholds-walk.json").unlink()
    wsss("pseudo", str(run)).refuses(f"Run `wsss calibrate {run} walk`")
    wsss("calibrate", str(run), "boxes").refuses("calibrates no threshold for 'boxes'")
