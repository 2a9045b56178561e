"""Published weights of the affinity network and of the segmenter, instead of their trainings."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from typer.testing import CliRunner

from wsss.cli import app
from wsss.data.index import Index, save_index
from wsss.errors import CheckpointError, ConfigError
from wsss.methods.base import build_method
from wsss.nets.affinitynet import PSA_LAYOUT, affinity_layout, build_affinity_network
from wsss.nets.deeplab import LAYOUTS, PUBLISHED, build_deeplab, segmenter_layout
from wsss.nets.irn import IRN_LAYOUT, PUZZLE_LAYOUT
from wsss.runs.flow import Flow
from wsss.runs.inputs import index_files
from wsss.runs.run import Run
from wsss.settings.base import merge
from wsss.settings.resolve import validate_params
from wsss.stages.affinity import affinity
from wsss.storage import archive, checkpoint
from wsss.storage.files import read_json
from wsss.training import session

RUN = "shapes/cam/common/s0"
IRN_FILE, SEGMENTER_FILE = "res50_irn.pth", "deeplabv2.pth"
SETTINGS: dict[str, Any] = {
    "methods": ["cam"],
    "cam": {"scales": [1.0], "mirror": False},
    "affinity": {
        "kind": "irn",
        "backbone": "resnet50_irn",
        "stride": 16,
        "checkpoint": IRN_FILE,
    },
    "walk": {"log2_steps": 1, "pad_px": 64},
    "segmenter": {
        "backbone": "resnet101_caffe",
        "checkpoint": SEGMENTER_FILE,
        "test": {"scales": [1.0], "mirror": False},
    },
}
# From our names to those of IRNet's and deeplab-pytorch's files.
IRN_NAMES = {
    r"^backbone\.body\.": "resnet50.",
    **{rf"^edge\.reduce\.{tap}\.": f"fc_edge{tap + 1}." for tap in range(5)},
    r"^edge\.mix\.": "fc_edge6.",
    **{rf"^displacement\.reduce\.{tap}\.": f"fc_dp{tap + 1}." for tap in range(5)},
    r"^displacement\.coarse\.": "fc_dp6.",
    r"^displacement\.fine\.": "fc_dp7.",
    r"^displacement\.out\.": "fc_dp7.3.",
    r"^displacement\.mean$": "mean_shift.running_mean",
}
SEGMENTER_NAMES = {r"^head\.branches\.": "base.aspp.c", r"^backbone\.": "base."}


def write_published(path: str, state: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
    """Write tensors under the names of a published file."""
    renamed = {}
    for key, value in state.items():
        for pattern, name in names.items():
            key, count = re.subn(pattern, name, key)
            if count:
                break
        renamed[key] = value
    torch.save(renamed, path)


def call(*arguments: str) -> None:
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0


@pytest.fixture
def run(squares: Index, work: Path) -> Run:
    """Return a run with a classifier of random weights and two published files, nothing trained."""
    Path("params.yaml").write_text(yaml.safe_dump(SETTINGS))
    run = Run.parse(RUN, validate_params(SETTINGS))
    few = replace(squares, dataset="shapes", images=(*squares.images[:2], squares.images[-1]))
    save_index(few, run.index)
    torch.manual_seed(0)
    classifier = build_method(run, len(squares.classes)).build("classifier")
    header = session.header(run, "classifier", few)
    checkpoint.save(run.path("classifier.safetensors"), classifier.state_dict(), header)
    irn = build_affinity_network(run.settings.affinity).state_dict()
    write_published(IRN_FILE, irn, IRN_NAMES)
    segmenter = build_deeplab(run.settings.segmenter, len(squares.classes)).state_dict()
    write_published(SEGMENTER_FILE, segmenter, SEGMENTER_NAMES)
    return run


@pytest.mark.slow
def test_published_weights_walk_and_segment_through_the_commands(run: Run) -> None:
    for stage in ("cam", "walk"):
        if stage == "walk":
            call("affinity", RUN)
        call(stage, RUN)
        call("gather", RUN, stage)
    call("segmenter", RUN)
    call("masks", RUN)
    call("gather", RUN, "masks")
    for stage, file in (("affinity", IRN_FILE), ("segmenter", SEGMENTER_FILE)):
        record = read_json(run.path(f"{stage}.json"))
        assert set(record["inputs"]) == {index_files(run, stage)[0].as_posix(), file}
        assert len(record["inputs"][file]) >= 16
        assert run.path(f"{stage}.csv").read_text().count("\n") == 1
    published = torch.load(IRN_FILE, weights_only=True)
    taken, header = checkpoint.load(run.path("affinity.safetensors"))
    assert torch.equal(taken["edge.mix.weight"], published["fc_edge6.weight"])
    assert header["params"]["checkpoint"] == IRN_FILE
    assert len(list(archive.Reader(run.path("walk.zip")).names())) == 2
    assert len(list(archive.Reader(run.path("masks.zip")).names())) == 1


def test_another_file_is_refused_in_one_line(run: Run) -> None:
    changed = merge(SETTINGS, {"affinity": {"checkpoint": SEGMENTER_FILE}})
    with pytest.raises(
        CheckpointError, match="deeplabv2.pth is not a file of this network"
    ) as error:
        affinity(Run.parse(RUN, validate_params(changed)))
    assert "\n" not in str(error.value)
    assert not run.path("affinity.safetensors").exists()


def test_stages_with_published_weights_need_no_labels() -> None:
    job: Any = SimpleNamespace(dataset="shapes", method="cam", protocol="common", seed="0")
    flow, trained = Flow(SETTINGS), Flow({"methods": ["cam"]})
    assert flow.initial_file("affinity")(job) == [IRN_FILE]
    assert flow.initial_file("segmenter")(job) == [SEGMENTER_FILE]
    assert flow.affinity_labels(job) == flow.labels(job) == []
    assert trained.affinity_labels(job) == [f"work/{RUN}/confident.zip"]
    assert trained.labels(job) == [f"work/{RUN}/pseudo.zip"]
    assert "confident" not in flow.runs[0].stages()
    assert "confident" in trained.runs[0].stages()


def test_published_weights_need_neither_initial_weights_nor_their_file() -> None:
    initial = {"affinity": {"weights": "imagenet"}, "segmenter": {"initial_file": "absent.pth"}}
    flow = Flow(merge(SETTINGS, initial))
    job: Any = SimpleNamespace(dataset="shapes", method="cam", protocol="common", seed="0")
    assert flow.weights("affinity")(job) == []
    assert flow.initial_file("segmenter")(job) == [SEGMENTER_FILE]


def test_each_published_network_has_its_layout() -> None:
    def affinity_params(**changes: Any) -> Any:
        return validate_params({"affinity": changes}).affinity

    irn = {"kind": "irn", "backbone": "resnet50_irn", "stride": 16}
    psa = affinity_params(backbone="resnet38", channels=[64, 128, 256])
    assert affinity_layout(psa) == PSA_LAYOUT
    assert affinity_layout(affinity_params(**irn)) == IRN_LAYOUT
    without = affinity_params(**irn, irn={"displacement_channels": 0})
    assert affinity_layout(without) == PUZZLE_LAYOUT
    with pytest.raises(ConfigError, match="affinity.kind affinitynet on toy"):
        affinity_layout(affinity_params())
    for (head, backbone), name in PUBLISHED.items():
        params = validate_params({"segmenter": {"head": head, "backbone": backbone}}).segmenter
        assert segmenter_layout(params) == LAYOUTS[name]
    with pytest.raises(ConfigError, match="segmenter.head deeplab_v2 on toy"):
        segmenter_layout(validate_params({}).segmenter)
