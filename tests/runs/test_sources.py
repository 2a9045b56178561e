"""Stages refuse files of earlier stages that are not the current ones, and write whole archives."""

from pathlib import Path

import pytest
import torch
from answer import wsss
from made_run import make_dataset, make_run

from wsss.data.index import Index
from wsss.methods.base import build_method
from wsss.runs.record import recorder
from wsss.runs.run import Run
from wsss.runs.sources import source_files
from wsss.settings import Params
from wsss.storage import checkpoint
from wsss.storage.files import read_json, write_json
from wsss.training import session

RUN = "shapes/cam/common/s0"
FOLDER = Path("work") / RUN
CLASSES = ("a", "b", "c")
FEW_SCALES = "cam: {scales: [1.0]}\n"


@pytest.fixture
def trained(squares: Index, work: Path) -> Run:
    """Return a run that consists of a classifier with its first weights, and of the data."""
    (work / "params.yaml").write_text(FEW_SCALES)
    run = Run(Params(), "shapes", "cam", "common", 0)
    index = make_dataset(squares, "shapes", run.params, CLASSES)
    torch.manual_seed(0)
    net = build_method(run, len(CLASSES)).build("classifier")
    path = run.path("classifier.safetensors")
    checkpoint.save(path, net.state_dict(), session.header(run, "classifier", index))
    recorder(run, "classifier").write(
        run.path("classifier.json"), source_files(run, "classifier"), [path]
    )
    return run


@pytest.fixture
def finished(squares: Index, work: Path) -> Run:
    """Return a run with every artifact and record."""
    (work / "params.yaml").write_text("{}\n")
    run = Run(Params(), "shapes", "cam", "common", 0)
    make_run(run, make_dataset(squares, "shapes", run.params, CLASSES))
    return run


def test_cams_are_made_and_scored_by_three_commands(trained: Run) -> None:
    wsss("cam", RUN).accepts()
    wsss("calibrate", RUN, "cam").accepts()
    wsss("evaluate", RUN, "seed").accepts()
    first, scored = trained.path("cam.zip").read_bytes(), read_json(trained.path("eval/seed.json"))
    Path("params.yaml").write_text("cam: {scales: [1.0, 2.0]}\n")
    refusal = wsss("evaluate", RUN, "seed")
    refusal.refuses(
        f"{FOLDER}/cam.zip is out of date: {RUN} cam: cam.scales was [1.0], is [1.0, 2.0]"
    )
    refusal.refuses(f"Run `wsss cam {RUN}`, or `snakemake --cores 1 {FOLDER}/eval/seed.json`")
    assert read_json(trained.path("eval/seed.json")) == scored
    wsss("cam", RUN).accepts()
    wsss("evaluate", RUN, "seed").refuses(f"Run `wsss calibrate {RUN} cam`")
    wsss("calibrate", RUN, "cam").accepts()
    wsss("evaluate", RUN, "seed").accepts()
    assert trained.path("cam.zip").read_bytes() != first


def test_a_shard_leaves_the_archive_to_gather(trained: Run) -> None:
    wsss("cam", RUN).accepts()
    whole, record = trained.path("cam.zip").read_bytes(), read_json(trained.path("cam.json"))
    trained.path("cam.zip").unlink()
    trained.path("cam.json").unlink()
    wsss("cam", RUN, "--shard", "1-of-1").accepts()
    assert not trained.path("cam.zip").exists()
    wsss("gather", RUN, "cam").accepts()
    assert trained.path("cam.zip").read_bytes() == whole
    gathered = read_json(trained.path("cam.json"))
    assert gathered == record


@pytest.mark.parametrize(
    ("arguments", "changed", "remade"),
    [
        (("cam", RUN), "classifier.safetensors", f"train {RUN} classifier"),
        (("confident", RUN), "cam.zip", f"cam {RUN}"),
        (("calibrate", RUN, "walk"), "walk.zip", f"walk {RUN}"),
        (("affinity", RUN), "confident.zip", f"confident {RUN}"),
        (("walk", RUN), "affinity.safetensors", f"affinity {RUN}"),
        (("pseudo", RUN), "walk.zip", f"walk {RUN}"),
        (("segmenter", RUN), "pseudo.zip", f"pseudo {RUN}"),
        (("masks", RUN), "segmenter.safetensors", f"segmenter {RUN}"),
        (("evaluate", RUN, "seed"), "cam.zip", f"cam {RUN}"),
        (("evaluate", RUN, "walk"), "walk.zip", f"walk {RUN}"),
        (("evaluate", RUN, "pseudo"), "pseudo.zip", f"pseudo {RUN}"),
        (("evaluate", RUN, "segmentation"), "masks.zip", f"masks {RUN}"),
    ],
)
def test_a_file_that_its_record_does_not_describe_is_refused(
    finished: Run, arguments: tuple[str, ...], changed: str, remade: str
) -> None:
    path = finished.path(changed)
    path.write_bytes(path.read_bytes() + b"\0")
    record = path.with_suffix(".json")
    answer = wsss(*arguments)
    answer.refuses(f"{path} is not the file that {record} describes: one of them is older.")
    answer.refuses(f"Run `wsss {remade}`, or `snakemake --cores 1 ")


def test_cams_of_an_earlier_network_are_refused(finished: Run) -> None:
    path = finished.path("classifier.json")
    record = read_json(path)
    written = dict.fromkeys(record["outputs"], "0" * 64)
    write_json(path, {**record, "outputs": written})
    for stage in ("confident", "pseudo"):
        wsss(stage, RUN).refuses("it read another work/shapes/cam/common/s0/classifier.safetensors")
    wsss("evaluate", RUN, "seed").refuses(f"Run `wsss cam {RUN}`")


def test_later_stages_and_unfinished_ones_are_no_obstacle(finished: Run) -> None:
    finished.path("masks.zip").write_bytes(b"")
    finished.path("affinity.json").unlink()
    Path("params.yaml").write_text("segmenter: {test: {scales: [1.0]}}\n")
    wsss("evaluate", RUN, "seed").accepts()
    wsss("evaluate", RUN, "pseudo").accepts()
