"""SemFormer through its stages: the chain, interruptions, published files, and its loss terms."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from killed import KilledError, killed_at
from torch import Tensor
from typer.testing import CliRunner

from wsss.cli import app
from wsss.data.index import Index, save_index
from wsss.errors import ConfigError
from wsss.methods.base import build_method
from wsss.methods.semformer.method import complementation, content_mask, keep_loss, suppression
from wsss.runs.record import recorder
from wsss.runs.run import Run
from wsss.runs.sources import source_files
from wsss.settings.base import merge
from wsss.settings.resolve import validate_params
from wsss.stages.train import train
from wsss.storage import checkpoint
from wsss.storage.cam_archive import CamReader
from wsss.storage.files import read_json

RUN = "shapes/semformer/common/s0"
CHAIN = ("caae", "semformer")
SMALL = {"augment": {"crop_px": 48}, "train": {"epochs": 2, "batch": 8, "precision": "fp32"}}
TINY = {
    "caae": {**SMALL, "hyper_parameters": {"class_width": 8, "decoder_depth": 1}},
    "semformer": {**SMALL, "hyper_parameters": {"grid": 6, "critic_px": 48}},
}
THEIRS = {  # our names in the published files
    "caae": [
        (r"^backbone\.pos_embed$", "encoder.vit_backbone.grid_posembed"),
        (r"^backbone\.", "encoder.vit_backbone.model."),
        (r"^convert\.", "convert.0."),
        (r"^restore\.", "re_convert."),
        (r"^semantics\.", "crs.0."),
        (r"^decoder\.enter\.", "mlp."),
        (r"^decoder\.pixels\.", "decoder.mlp."),
    ],
    "semformer": [
        (r"^backbone\.pos_embed$", "segmentor.backbone.grid_posembed"),
        (r"^backbone\.(cls_token|cls_posembed)$", r"segmentor.\1"),
        (r"^backbone\.", "segmentor.backbone.model."),
        (r"^class_head\.", "segmentor.cls_head."),
        (r"^mask_head\.", "segmentor.seg_head.1."),
    ],
}
UNUSED = {
    "caae": ["dist_token", "head_dist.weight", "head_dist.bias"],
    "semformer": ["cls_token", "pos_embed"],
}


def settings(**networks: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with tiny networks, to which those of `networks` are added."""
    own = merge(TINY, networks)
    return {
        "methods": ["semformer"],
        "calibration": "none",
        "overrides": {"tiny": {"method": "semformer", "set": {"networks": own}}},
    }


@pytest.fixture
def run(squares: Index, work: Path) -> Run:
    """Return a run on the squares."""
    del work
    made = Run.parse(RUN, validate_params(settings()))
    save_index(replace(squares, dataset="shapes"), made.index)
    return made


def published(run: Run, name: str) -> dict[str, Tensor]:
    """Write random weights of a network as its authors would; return them in our names."""
    torch.manual_seed(3)
    state = build_method(run, 3).build(name).state_dict()
    theirs = checkpoint.rename(state, THEIRS[name])
    inner = {"caae": "encoder.vit_backbone.model", "semformer": "segmentor.backbone.model"}[name]
    theirs |= {f"{inner}.{key}": torch.ones(2) for key in UNUSED[name]}
    torch.save(theirs, f"{name}.pth")
    return state


def test_a_chain_killed_inside_and_between_its_trainings_ends_the_same(run: Run) -> None:
    whole = {}
    for name in CHAIN:
        train(run, name)
        whole[name] = run.path(f"{name}.safetensors").read_bytes()
    for name in CHAIN:
        run.path(f"{name}.safetensors").unlink()
    for name in CHAIN:
        with pytest.MonkeyPatch.context() as monkeypatch:
            killed_at(monkeypatch, 4)
            with pytest.raises(KilledError):
                train(run, name)
        assert not run.path(f"{name}.safetensors").exists()
        train(run, name)
        assert run.path(f"{name}.safetensors").read_bytes() == whole[name], name
        assert len(run.path(f"{name}.csv").read_text().splitlines()) == 1 + 6
    record = read_json(run.path("semformer.json"))
    assert run.path("caae.safetensors").as_posix() in record["inputs"]


def test_the_second_network_learns_from_the_first_and_leaves_it_as_it_is(run: Run) -> None:
    train(run, "caae")
    state, header = checkpoint.load(run.path("caae.safetensors"))
    train(run, "semformer")
    first = run.path("semformer.safetensors").read_bytes()
    after, _ = checkpoint.load(run.path("caae.safetensors"))
    assert all(torch.equal(state[key], after[key]) for key in state)
    state["semantics.weight"] = state["semantics.weight"].flip(0)
    checkpoint.save(run.path("caae.safetensors"), state, header)
    files = [run.path("caae.safetensors")]
    recorder(run, "caae").write(run.path("caae.json"), source_files(run, "caae"), files)
    train(run, "semformer")
    assert run.path("semformer.safetensors").read_bytes() != first


def test_a_published_checkpoint_leads_to_cams_and_a_score_by_commands(run: Run) -> None:
    state = published(run, "semformer")
    Path("params.yaml").write_text(
        yaml.safe_dump(settings(semformer={"checkpoint": "semformer.pth"}))
    )
    for command in (["train", RUN, "semformer"], ["cam", RUN], ["gather", RUN, "cam"]):
        assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    assert CliRunner().invoke(app, ["evaluate", RUN, "seed"], catch_exceptions=False).exit_code == 0
    found, _ = checkpoint.load(run.path("semformer.safetensors"))
    assert all(torch.equal(found[key], state[key]) for key in state)
    cams = CamReader(run.path("cam.zip"))
    assert np.isfinite([cams[name].cam.astype(np.float32).max() for name in cams]).all()
    assert 0 <= read_json(run.path("eval/seed.json"))["miou"] <= 1
    assert not run.path("caae.safetensors").exists()


def test_published_weights_need_no_networks_before_them() -> None:
    plain = Run.parse(RUN, validate_params(settings()))
    taken = Run.parse(RUN, validate_params(settings(semformer={"checkpoint": "semformer.pth"})))
    assert plain.stages()[:3] == ["caae", "semformer", "cam"]
    assert taken.stages()[:2] == ["semformer", "cam"]


def test_a_published_autoencoder_is_taken_too(run: Run) -> None:
    state = published(run, "caae")
    taken = Run.parse(RUN, validate_params(settings(caae={"checkpoint": "caae.pth"})))
    train(taken, "caae")
    found, _ = checkpoint.load(taken.path("caae.safetensors"))
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_a_backbone_that_is_no_transformer_is_refused() -> None:
    run = Run.parse(RUN, validate_params(settings(caae={"backbone": "resnet18"})))
    with pytest.raises(ConfigError, match="backbone of caae is resnet18: set it to vit_toy"):
        build_method(run, 3).build("caae")


def test_masks_that_add_up_to_1_complement_each_other() -> None:
    masks = torch.rand(2, 3, 4, 4)
    present = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    masks[0, 2] = 1 - masks[0, 0]
    everywhere = torch.ones(2, 1, 4, 4)
    assert complementation(masks, present, everywhere).item() == pytest.approx(0, abs=1e-12)
    masks[0, 2] += 0.1
    assert complementation(masks, present, everywhere).item() == pytest.approx(0.01)
    assert complementation(masks, present[1:].expand(2, -1), everywhere) == 0


def test_all_that_is_object_is_suppressed_and_background_is_not() -> None:
    masks = torch.zeros(1, 3, 4, 4)
    assert suppression(masks) == 1
    masks[:, 0] = 1
    assert suppression(masks) == 0
    masks[:, 2] = 1
    assert suppression(masks) == 0.5


def test_a_picture_that_shows_the_wanted_class_alone_costs_half() -> None:
    wanted = torch.tensor([[1.0, 0.0, 0.0]])
    unwanted = torch.tensor([[0.0, 1.0, 0.0]])
    assert keep_loss(torch.tensor([[1.0, 0.0, 9.0]]), wanted, unwanted) == 0.5
    assert keep_loss(torch.tensor([[0.0, 1.0, 9.0]]), wanted, unwanted) == 1.5


def test_filled_up_borders_are_no_picture_at_any_size() -> None:
    content = torch.tensor([[0, 0, 48, 48], [5, 11, 31, 48]])
    found = content_mask(content, 24, 48, torch.zeros(()))
    assert found[0].all()
    inside = torch.zeros(24, 24)
    inside[2:15, 5:24] = 1
    assert torch.equal(found[1, 0], inside)
