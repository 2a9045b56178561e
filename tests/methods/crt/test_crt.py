"""CRT through its stages: two networks in one, interruptions, published files, and localization."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_datasets
import numpy as np
import pytest
import torch
import yaml
from killed import KilledError, killed_at
from torch import Tensor
from typer.testing import CliRunner

from wsss.cli import app
from wsss.data.index import Index, load_index, save_index
from wsss.errors import ConfigError, DatasetError
from wsss.methods.base import build_method
from wsss.methods.crt.localization import is_apart
from wsss.methods.crt.method import mean_distance
from wsss.methods.crt.network import CRTNet
from wsss.runs.run import Run
from wsss.settings.base import merge
from wsss.settings.resolve import validate_params
from wsss.stages.boxes import boxes
from wsss.stages.evaluate_boxes import evaluate_boxes
from wsss.stages.train import train
from wsss.storage import checkpoint
from wsss.storage.archive import Reader, unpack_arrays
from wsss.storage.cam_archive import CamReader
from wsss.storage.files import read_json

SEGMENTS, LOCALIZES = "shapes/crt/common/s0", "shapes/crt_localization/common/s0"
TINY = {"augment": {"crop_px": 48}, "train": {"epochs": 3, "batch": 8, "precision": "fp32"}}
OWN = {
    "crt": {**TINY, "hyper_parameters": {"tile_px": 32, "passes": 2}},
    "crt_localization": {**TINY, "hyper_parameters": {"span": 2}},
    "tscam": TINY,
}
SQUARE = {"augment": {"crop_px": 48, "square_px": 56}}
PARTS = {"train": {"parts": [{"names": ["auxiliary_*"], "optimizer": "sgd", "lr": 0.01}]}}


def settings(*methods: str, **changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with tiny networks, to which those of `changes` are added by method."""
    overrides = {}
    for method in methods:
        own = merge(OWN[method], changes.get(method, {}))
        if method != "crt":
            own = merge(own, SQUARE)
        overrides[method] = {"method": method, "set": {"networks": {"classifier": own}}}
    return {"methods": list(methods), "calibration": "none", "overrides": overrides}


def made(name: str, squares: Index, **changes: Mapping[str, Any]) -> Run:
    """Return a run on the squares with its index."""
    method = name.split("/")[1]
    run = Run.parse(name, validate_params(settings(method, **changes)))
    save_index(replace(squares, dataset="shapes"), run.index)
    return run


@pytest.mark.parametrize(
    ("name", "changes"), [(SEGMENTS, {}), (LOCALIZES, {"crt_localization": PARTS})]
)
def test_a_killed_training_goes_on_with_its_epochs_and_both_optimisers(
    name: str, changes: dict[str, Any], squares: Index, work: Path
) -> None:
    del work
    run = made(name, squares, **changes)
    train(run, "classifier")
    weights, log = run.path("classifier.safetensors"), run.path("classifier.csv")
    whole, rows = weights.read_bytes(), log.read_text().splitlines()
    weights.unlink()
    steps = len(rows) - 1
    for step in (steps // 2, steps - 1):  # inside an epoch, and in one with the maps together
        with pytest.MonkeyPatch.context() as monkeypatch:
            killed_at(monkeypatch, step)
            with pytest.raises(KilledError):
                train(run, "classifier")
        train(run, "classifier")
        assert weights.read_bytes() == whole
        weights.unlink()
    heads = rows[0].split(",")
    drawn = [bool(row.split(",")[heads.index("consistency")]) for row in rows[1:]]
    assert drawn == sorted(drawn), "the maps are not drawn together at first, then always here"
    assert not drawn[0]
    assert drawn[-1]


def test_it_says_that_it_needs_a_cnn(squares: Index, work: Path) -> None:
    del work
    run = made(SEGMENTS, squares, crt={"auxiliary_cnn": None})
    with pytest.raises(ConfigError, match="auxiliary_cnn: CRT's transformer learns from a CNN"):
        build_method(run, 3).build("classifier")


def published(run: Run) -> dict[str, Tensor]:
    """Write a random transformer as its authors would; return it in our names."""
    torch.manual_seed(3)
    state = build_method(run, 3).build("classifier").state_dict()
    own = {key: v for key, v in state.items() if key.startswith(("backbone.", "head."))}
    theirs = {f"module.{key.removeprefix('backbone.')}": value for key, value in own.items()}
    torch.save({"epoch": 3, "state_dict": theirs, "best_map": 0.5}, "published.pth")
    return own


def invoke(*commands: list[str]) -> None:
    for command in commands:
        assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0


def test_a_published_transformer_leads_to_cams_and_a_score_by_commands(
    squares: Index, work: Path
) -> None:
    del work
    run = made(SEGMENTS, squares)
    state = published(run)
    given = settings("crt", crt={"checkpoint": "published.pth"})
    Path("params.yaml").write_text(yaml.safe_dump(given))
    invoke(["train", SEGMENTS, "classifier"], ["cam", SEGMENTS], ["gather", SEGMENTS, "cam"])
    invoke(["evaluate", SEGMENTS, "seed"])
    found, _ = checkpoint.load(run.path("classifier.safetensors"))
    assert all(torch.equal(found[key], value) for key, value in state.items())
    cams = CamReader(run.path("cam.zip"))
    assert np.isfinite([cams[name].cam.astype(np.float32).max() for name in cams]).all()
    assert 0 <= read_json(run.path("eval/seed.json"))["miou"] <= 1


def test_a_published_transformer_leads_to_boxes_and_a_table_by_commands(work: Path) -> None:
    made_datasets.cub(work / "cub")
    name = "cub/crt_localization/common/s0"
    given = settings("crt_localization", crt_localization={"checkpoint": "published.pth"})
    given |= {"datasets": ["cub"], "data": {"cub": {"root": "cub"}}}
    run = Run.parse(name, validate_params(given))
    Path("params.yaml").write_text(yaml.safe_dump(given))
    invoke(["data", "prepare", "cub"])
    index = load_index(run.index)
    torch.manual_seed(3)
    net = build_method(run, len(index.classes)).build("classifier")
    state = {
        key.removeprefix("backbone."): value
        for key, value in net.state_dict().items()
        if key.startswith(("backbone.", "head."))
    }
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, "published.pth")
    invoke(["train", name, "classifier"], ["boxes", name], ["evaluate", name, "boxes"])
    record = read_json(run.path("eval/boxes.json"))
    entries = index.of_one_class("val")
    assert sum(record["outcomes"].values()) == record["protocol"]["images"] == len(entries)
    assert record["top1"] <= record["top5"] <= record["top5_class"]
    invoke(["table"])
    table = Path("results/localization.md").read_text()
    assert "GT-known" in table
    assert "| cub" in table
    assert len(Path("results/localization.csv").read_text().splitlines()) == 2
    panel = "panels-cub-crt_localization-common-s0-val.png"
    assert (Path("results/figures") / panel).is_file()


def test_boxes_are_of_images_with_one_class_in_the_frame_of_the_crops(
    squares: Index, work: Path
) -> None:
    del work
    run = made(LOCALIZES, squares)
    train(run, "classifier")
    boxes(run)
    evaluate_boxes(run)
    alone = [entry.name for entry in squares.of_one_class("val")]
    assert 0 < len(alone) < len(squares.split("val"))
    reader = Reader(run.path("boxes.zip"))
    assert sorted(reader.names()) == sorted(f"{name}.npz" for name in alone)
    found = unpack_arrays(reader.read(f"{alone[0]}.npz"))
    assert found["boxes"].shape == (3, 4)  # there are three classes
    assert found["boxes"].max() <= found["side"] == 48
    again = run.path("boxes.zip").read_bytes()
    boxes(run)
    assert run.path("boxes.zip").read_bytes() == again


def test_without_images_of_one_class_nothing_is_localized(squares: Index, work: Path) -> None:
    del work
    images = tuple(replace(e, labels=("red", "blue")) for e in squares.images)
    run = made(LOCALIZES, replace(squares, images=images))
    with pytest.raises(DatasetError, match="no training images with one class"):
        train(run, "classifier")
    with pytest.raises(DatasetError, match="no image of the split 'val' with one class"):
        boxes(run)


def test_maps_are_apart_in_every_first_span() -> None:
    assert [done + 1 for done in range(12) if not is_apart(done, 3)] == [3, 4, 5, 9, 10, 11]


def test_the_distance_of_maps_is_that_of_enlarged_ones() -> None:
    zero, one = torch.zeros(1, 2, 3, 3), torch.ones(1, 2, 6, 6)
    assert mean_distance(zero, one, (12, 12)) == 1
    assert mean_distance(one, one[:, :, :3, :3], (7, 9)) < 1e-6


def test_tscam_is_the_transformer_alone() -> None:
    run = Run.parse("shapes/tscam/common/s0", validate_params(settings("tscam")))
    net = build_method(run, 3).build("classifier")
    assert isinstance(net, CRTNet)
    assert not any(name.startswith("auxiliary_") for name, _ in net.named_parameters())
