"""Published weights instead of training."""

from pathlib import Path

import pytest
import torch

from wsss.data.index import Index, save_index
from wsss.errors import CheckpointError, ConfigError
from wsss.methods.cam.method import CAM
from wsss.report.figures.loss_curves import read
from wsss.runs.run import Run
from wsss.settings.resolve import validate_params
from wsss.stages.train import train
from wsss.storage import checkpoint
from wsss.storage.files import read_json

FILE = Path("res50_cam.pth")


def run_with(**classifier: object) -> Run:
    params = validate_params({"classifier": {"checkpoint": str(FILE), **classifier}})
    return Run.parse("shapes/cam/common/s0", params)


def published(run: Run, classes: int) -> dict[str, torch.Tensor]:
    """Write a classifier as IRNet does, under several names, and return it in ours."""
    torch.manual_seed(1)
    state = CAM(run.settings.networks, classes).build("classifier").state_dict()
    theirs = {key.replace("backbone.body.", "resnet50."): value for key, value in state.items()}
    repeated = {"stage1.0.weight": state["backbone.body.conv1.weight"]}
    torch.save(theirs | repeated, FILE)
    return state


def test_published_weights_become_the_network_of_the_run(work: Path, squares: Index) -> None:
    run = run_with(backbone="resnet50_irn", stride=16, weights="imagenet")
    save_index(squares, run.index)
    state = published(run, len(squares.classes))
    train(run, "classifier")
    found, header = checkpoint.load(run.path("classifier.safetensors"))
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], value) for key, value in state.items())
    assert header["params"]["checkpoint"] == str(FILE)
    record = read_json(run.path("classifier.json"))
    assert set(record["inputs"]) == {"work/shapes/index/train.json", str(FILE)}
    assert 0 <= record["metrics"]["val_map"] <= 1
    assert read(run.path("classifier.csv")) == []


def test_weights_of_another_number_of_classes_are_refused(work: Path, squares: Index) -> None:
    run = run_with(backbone="resnet50_irn", stride=16)
    save_index(squares, run.index)
    published(run, 20)
    with pytest.raises(CheckpointError, match=r"classifier.weight \(20, .*\) for \(3, "):
        train(run, "classifier")
    assert not run.path("classifier.safetensors").exists()


def test_a_network_without_published_weights_says_so(work: Path, squares: Index) -> None:
    run = run_with()
    save_index(squares, run.index)
    with pytest.raises(ConfigError, match="known for classifier on toy"):
        train(run, "classifier")
