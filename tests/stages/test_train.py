"""Published weights instead of training."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from wsss.data.index import Index, save_index
from wsss.errors import CheckpointError, ConfigError
from wsss.methods.cam.method import CAM
from wsss.methods.mctformer.method import MultiClassTokens
from wsss.report.figures.loss_curves import read
from wsss.runs.flow import Flow
from wsss.runs.run import Run
from wsss.settings import TrainParams
from wsss.settings.resolve import validate_params
from wsss.stages.train import train
from wsss.storage import checkpoint
from wsss.storage.files import read_json
from wsss.training.batches import Schedule
from wsss.training.session import images_seen

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
    assert record["parameters"] > 1_000_000
    assert record["images_seen"] is None  # trained elsewhere
    assert read(run.path("classifier.csv")) == []


def test_weights_of_another_number_of_classes_are_refused(work: Path, squares: Index) -> None:
    run = run_with(backbone="resnet50_irn", stride=16)
    save_index(squares, run.index)
    published(run, 20)
    with pytest.raises(CheckpointError, match=r"classifier.weight \(20, .*\) for \(3, ") as error:
        train(run, "classifier")
    assert "It was trained on 20 classes, and the dataset has 3" in str(error.value)
    assert not run.path("classifier.safetensors").exists()


def class_tokens(backbone: str, crop_px: int, classes: int) -> None:
    """Write a file of MCTformer whose tensors have the right shapes and one value each."""
    changes = {"backbone": backbone, "stride": 16, "augment": {"crop_px": crop_px}}
    params = validate_params({"classifier": changes, "methods": ["mctformer"]})
    with torch.device("meta"):
        run = Run.parse("shapes/mctformer/common/s0", params)
        state = MultiClassTokens(run.settings.networks, classes).build("classifier").state_dict()
    one = torch.zeros(())
    named = {key.removeprefix("backbone."): one.expand(value.shape) for key, value in state.items()}
    torch.save({"model": named}, FILE)


def test_the_settings_that_a_file_would_fit_are_named(work: Path, squares: Index) -> None:
    save_index(squares, Path("work/shapes/index.json"))
    class_tokens("deit_small_patch16_224", 448, 20)
    changes = {"checkpoint": str(FILE), "backbone": "vit_toy", "augment": {"crop_px": 96}}
    params = validate_params({"classifier": changes, "methods": ["mctformer"]})
    run = Run.parse("shapes/mctformer/common/s0", params)
    with pytest.raises(CheckpointError) as error:
        train(run, "classifier")
    assert str(error.value).endswith(
        "Its backbone is deit_small_patch16_224: set backbone: deit_small_patch16_224. It was trained "
        "on crops of 448 px: set augment.crop_px: 448. It was trained on 20 classes, and the dataset "
        "has 3: take a file for this dataset, or a dataset with those classes."
    )


def test_a_part_of_a_file_is_taken_and_the_file_recorded(work: Path, squares: Index) -> None:
    run = run_with(backbone="resnet50_irn", stride=16, checkpoint=f"{FILE}:teacher")
    save_index(squares, run.index)
    state = published(run, len(squares.classes))
    content = torch.load(FILE, weights_only=True)
    torch.save({"student": content, "teacher": content}, FILE)
    train(run, "classifier")
    taken, _ = checkpoint.load(run.path("classifier.safetensors"))
    assert all(torch.equal(taken[key], value) for key, value in state.items())
    assert str(FILE) in read_json(run.path("classifier.json"))["inputs"]
    flow = Flow({"classifier": {"checkpoint": f"{FILE}:teacher"}})
    job: Any = SimpleNamespace(
        dataset="shapes", method="cam", protocol="common", seed="0", network="classifier"
    )
    assert flow.before(job) == [str(FILE)]


def test_a_network_without_published_weights_says_so(work: Path, squares: Index) -> None:
    run = run_with()
    save_index(squares, run.index)
    with pytest.raises(ConfigError, match="known for classifier on toy"):
        train(run, "classifier")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"epochs": 3, "batch": 4}, 24),  # of 10 images the last 2 are dropped
        ({"epochs": 3, "batch": 4, "last_batch": "keep"}, 30),
        ({"steps": 5, "batch": 4}, 20),
        ({"steps": 4, "batch": 4, "last_batch": "keep"}, 14),
    ],
)
def test_the_record_counts_every_image_as_often_as_it_is_used(
    settings: dict[str, Any], expected: int
) -> None:
    params = TrainParams(**settings)
    keeps = params.last_batch == "keep"
    schedule = Schedule(10, params.batch, params.epochs, 1, 0, limit=params.steps, keep=keeps)
    assert sum(map(len, schedule.parts(0))) == expected
    assert images_seen(params, 10) == expected
