"""Affinities from a network that nobody trains, through the commands of the stages."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from wsss.cli import app
from wsss.data.images import load_truth
from wsss.data.index import Index, save_index
from wsss.runs.inputs import index_files
from wsss.runs.run import Run
from wsss.settings.resolve import validate_params
from wsss.storage import archive, checkpoint
from wsss.storage.cam_archive import Cam, CamReader, pack
from wsss.storage.files import read_json

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "frozen.py"
RUN = "shapes/cam/common/s0"
SETTINGS: dict[str, Any] = {
    "methods": ["cam"],
    # The features of random weights hardly differ, so colours are compared in addition.
    "affinity": {"kind": "frozen", "backbone": "toy", "stride": 4, "frozen": {"colours": 20.0}},
    "walk": {"log2_steps": 6},
}


def call(*arguments: str) -> None:
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0


@pytest.fixture
def run(squares: Index, work: Path) -> Run:
    """Return a run with the CAMs of two images: one cell in the middle of each class's pixels."""
    Path("params.yaml").write_text(yaml.safe_dump(SETTINGS))
    run = Run.parse(RUN, validate_params(SETTINGS))
    few = replace(squares, dataset="shapes", images=(*squares.images[:2], squares.images[-1]))
    save_index(few, run.index)
    with archive.Writer(run.path("cam.zip")) as writer:
        for entry in few.training():
            writer.add(f"{entry.name}.npz", pack(seed_of(load_truth(entry, len(few.classes)))))
    return run


def seed_of(truth: np.ndarray) -> Cam:
    """Return a CAM that is 1 at the cell of each class whose neighbours have the most of its pixels."""
    labels = np.array([label for label in np.unique(truth) if 0 < label < 255])
    maps = np.zeros((len(labels), truth.shape[0] // 4, truth.shape[1] // 4), np.float16)
    for plane, label in zip(maps, labels, strict=True):
        rows, columns = np.nonzero(truth == label)
        plane[int(rows.mean()) // 4, int(columns.mean()) // 4] = 1
    return Cam((labels - 1).astype(np.int16), maps, truth.shape, 4)


def test_seeds_spread_over_their_objects_without_any_training(run: Run, squares: Index) -> None:
    call("affinity", RUN)
    call("walk", RUN)
    record = read_json(run.path("affinity.json"))
    assert set(record["inputs"]) == {index_files(run, "affinity")[0].as_posix()}
    assert record["params"]["frozen"]["unit"] == "measured"
    assert record["images_seen"] == 0
    assert 0 < float(checkpoint.load(run.path("affinity.safetensors"))[0]["unit"]) < 1
    cams = CamReader(run.path("walk.zip"))
    for entry in squares.images[:2]:
        cam, truth = cams[entry.name], load_truth(entry, len(squares.classes))
        for label, scores in zip(cam.labels, cam.full(), strict=True):
            inside = truth == label + 1
            assert scores[inside].mean() > 3 * scores[~inside].mean()
            assert (scores[inside] > 0.1).mean() > 0.8


def test_the_script_behind_the_page_compares_seed_and_walks(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call("affinity", RUN)
    monkeypatch.setattr(sys, "argv", ["frozen.py", RUN, "--images", "2", "--picture", "worst.jpg"])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "%" in line]
    assert [row[0] for row in rows[:2]] == ["| none (the seed)", rows[1][0]]
    best = max(float(row[1].rstrip("%")) for row in rows[1:6])
    assert best > float(rows[0][1].rstrip("%"))
    with Image.open("worst.jpg") as picture:
        assert picture.size[1] == 96  # both images
