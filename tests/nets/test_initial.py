"""The file of a network names initial weights that no training changed, instead of repeating them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from answer import wsss

import wsss as package
from wsss.data.index import Index, save_index
from wsss.errors import CheckpointError, MissingError
from wsss.inference.trained import restore
from wsss.machine.runtime import Runtime
from wsss.methods.base import build_method
from wsss.nets import initial
from wsss.nets.affinitynet import build_affinity_network
from wsss.nets.backbone import Network
from wsss.nets.build import build_backbone
from wsss.runs.inputs import initial_weights_path, weights_code
from wsss.runs.record import Recorder
from wsss.runs.run import Run
from wsss.settings.resolve import load_params
from wsss.stages.train import train
from wsss.storage import checkpoint

CPU = Runtime(torch.device("cpu"), torch.float32)
RUN = "shapes/weclip/common/s0"
PARAMS = """\
methods: [weclip]
decode: {scales: [1.0]}
calibration: none
overrides:
  short:
    method: weclip
    set:
      networks: {classifier: {weights: imagenet, augment: {crop_px: 32}, train: {epochs: 1, batch: 12}}}
"""
FROZEN = """\
affinity: {kind: frozen, backbone: toy, stride: 4, weights: imagenet, frozen: {unit: 0.5}}
"""


def write_initial(name: str, seed: int = 0) -> Path:
    """Write random weights of a backbone as initial weights with a record, into the working folder."""
    torch.manual_seed(seed)
    backbone, path = name.partition(".")[0], initial_weights_path(name)
    record = Recorder("weights", {"weights": name}, weights_code())
    checkpoint.save(path, build_backbone(backbone, 8).state_dict(), {})
    record.write(path.with_suffix(".json"), [], [path])
    return path


@pytest.fixture
def run(work: Path, squares: Index) -> Run:
    """Return a run whose frozen tower comes from initial weights, after its training."""
    Path("params.yaml").write_text(PARAMS)
    run = Run.parse(RUN, load_params([Path("params.yaml")]))
    save_index(squares, run.index)
    write_initial("clip_toy.imagenet")
    train(run, "classifier")
    return run


def test_every_reader_takes_the_tower_from_the_initial_weights(run: Run, squares: Index) -> None:
    tensors, header = checkpoint.load(run.path("classifier.safetensors"))
    assert {key.partition(".")[0] for key in tensors} == {
        "classes",
        "background",
        "fuse",
        "decoder",
    }
    assert header["initial"]["backbone"]["weights"] == "clip_toy.imagenet"
    wsss("cam", RUN).accepts()
    wsss("gather", RUN, "cam").accepts()
    wsss("decode", RUN).accepts()
    wsss("gather", RUN, "decode").accepts()
    entry = squares.training()[0]
    wsss(
        "predict", RUN, str(Path(str(entry.path)).parent), "--out", "out", "--with", "decoder"
    ).accepts()
    folder = Path.cwd()
    maps = package.load(RUN, folder).cam(entry.path, entry.labels)
    stored = package.open_run(RUN, folder).cam(entry.name)
    assert np.allclose(maps.stored.cam, stored.stored.cam, atol=2e-3)
    lines = wsss("verify", RUN).said.splitlines()
    assert not [line for line in lines if "classifier" in line or "pretrained" in line]


@pytest.mark.parametrize("command", ["cam", "decode"])
def test_missing_and_other_initial_weights_are_one_line(run: Run, command: str) -> None:
    write_initial("clip_toy.imagenet", seed=1)
    path = "work/pretrained/clip_toy.imagenet.safetensors"
    weights = "work/shapes/weclip/common/s0/classifier.safetensors"
    initial_weights_path("clip_toy.imagenet").with_suffix(".json").unlink()
    wsss(command, RUN).refuses(f"{path} does not have the weights that {weights} was trained with.")
    Path(path).unlink()
    wsss(command, RUN).refuses(
        f"{path} is missing, which {weights} goes with. Run `wsss weights clip_toy.imagenet`"
    )


class Toy(Network):
    """A backbone with BatchNorm under one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = build_backbone("toy", 8)
        self.head = torch.nn.Conv2d(64, 2, 1)


def test_a_file_has_all_that_changed_and_gives_the_same_network(work: Path) -> None:
    file = write_initial("toy.imagenet")
    net, path = Toy(), Path("work/shapes/cam/common/s0/net.safetensors")
    initial.load_initial(net, "backbone", file)
    initial.save(path, net, {"classes": ["a"]})
    assert set(checkpoint.load(path)[0]) == {"head.weight", "head.bias"}
    assert checkpoint.classes(path) == ["a"]
    other = restore(Toy, path, CPU)
    expected = net.state_dict()
    assert all(torch.equal(expected[key], value) for key, value in other.state_dict().items())
    initial.save(path, other, {})
    assert len(checkpoint.load(path)[0]) == 2  # a restored network knows its initial weights too
    net.train()
    net.backbone(torch.randn(2, 3, 32, 32))  # the statistics of BatchNorm change, no weight does
    initial.save(path, net, {})
    assert checkpoint.load(path)[0].keys() == expected.keys()
    file.unlink()
    assert torch.equal(restore(Toy, path, CPU).head.weight, net.head.weight)


@pytest.mark.parametrize(
    "entry", [{"head": {"weights": "toy.imagenet", "digest": ""}}, {"body": {}}, ["backbone"], "x"]
)
def test_a_header_of_another_network_is_refused(work: Path, entry: Any) -> None:
    write_initial("toy.imagenet")
    path = Path("work/shapes/cam/common/s0/net.safetensors")
    checkpoint.save(path, Toy().state_dict(), {"initial": entry})
    with pytest.raises(CheckpointError, match="is not a file of this network"):
        restore(Toy, path, CPU)


def test_a_frozen_affinity_network_is_its_unit_alone(work: Path, squares: Index) -> None:
    Path("params.yaml").write_text(FROZEN)
    params = load_params([Path("params.yaml")])
    run = Run.parse("shapes/cam/common/s0", params)
    save_index(squares, run.index)
    file = write_initial("toy.imagenet")
    wsss("affinity", str(run)).accepts()
    path = run.path("affinity.safetensors")
    assert set(checkpoint.load(path)[0]) == {"unit"}
    net = restore(lambda: build_affinity_network(run.settings.affinity), path, CPU)
    tensors = checkpoint.load(file)[0]
    state = net.backbone.state_dict()
    assert all(torch.equal(state[key], value) for key, value in tensors.items())


def test_the_network_of_clip_es_is_its_vectors_alone(work: Path, squares: Index) -> None:
    Path("params.yaml").write_text(
        "methods: [clip_es]\noverrides: {c: {method: clip_es, set: {networks: {clip: {weights: imagenet}}}}}\n"
    )
    run = Run.parse("shapes/clip_es/common/s0", load_params([Path("params.yaml")]))
    save_index(squares, run.index)
    write_initial("clip_toy.imagenet")
    train(run, "clip")
    path = run.path("clip.safetensors")
    assert set(checkpoint.load(path)[0]) == {"classes", "background"}
    method = build_method(run, len(squares.classes))
    assert restore(lambda: method.build("clip"), path, CPU).initial["backbone"].weights
    initial_weights_path("clip_toy.imagenet").unlink()
    with pytest.raises(MissingError, match="is missing, which"):
        restore(lambda: method.build("clip"), path, CPU)
