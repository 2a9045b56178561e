"""MCTformer and PCSS beyond parity: state and resumption, laws, published files by commands."""

import itertools
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wsss.data.index import Index, save_index
from wsss.errors import ConfigError
from wsss.inference.trained import normalisation
from wsss.machine.runtime import Runtime
from wsss.methods.base import Method, build_method
from wsss.methods.pcss.influence import measure
from wsss.methods.pcss.method import PCSS, present_losses
from wsss.runs.run import Run
from wsss.settings import method_spec
from wsss.settings.resolve import validate_params
from wsss.stages.train import Classification
from wsss.storage import checkpoint
from wsss.storage.files import read_json
from wsss.training import loop
from wsss.training.batches import Squares, TrainingImages
from wsss.training.loop import Training, fit

CPU = Runtime(torch.device("cpu"), torch.float32)
SMALL: dict[str, Any] = {"augment": {"crop_px": 32}, "train": {"epochs": 5, "batch": 8}}
FIM = {"fim_block_px": 8, "fim_images": 4, "fim_every": 1, "fim_first": 1}


def build(method: str, settings: Mapping[str, Any] | None = None, **network: Any) -> Method:
    chosen = {
        **SMALL,
        "hyper_parameters": {**(FIM if method == "pcss" else {}), **(settings or {})},
    }
    override = {"method": method, "set": {"networks": {"classifier": {**chosen, **network}}}}
    params = validate_params({"methods": [method], "overrides": {"mine": override}})
    return build_method(Run(params, "shapes", method, "common", 0), 3)


def batch(size: int = 32) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"image": torch.randn(4, 3, size, size), "label": torch.eye(4, 3)}


def trained(index: Index, folder: Path, stop: int | None = None) -> dict[str, Tensor]:
    """Train PCSS, or stop with an error at a step; return the weights."""
    method = build("pcss")
    torch.manual_seed(0)
    net = method.build("classifier")
    params, look = method.params["classifier"], normalisation(net)
    squares = Squares(index, index.training(), look, 0)
    objective = Classification(method, "classifier", net, {}, squares)
    images = TrainingImages(index, index.training(), params.augment, look, 0)
    if stop is not None:
        method.losses = stopping(method.losses, stop)  # type: ignore[method-assign]
    weights = folder / "classifier.safetensors"
    fit(Training(objective, images, params.train, 0, weights, {}), CPU)
    return checkpoint.load(weights)[0]


def stopping(losses: Any, stop: int) -> Any:
    def limited(network: str, nets: Any, items: Any, step: int) -> Any:
        if step == stop:
            raise KeyboardInterrupt
        return losses(network, nets, items, step)

    return limited


@pytest.mark.slow
def test_a_resumed_training_has_the_influence_of_an_uninterrupted_one(
    squares: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(squares, tmp_path / "whole")
    assert whole["influence.epoch"] == 4  # the last epoch has none after it
    assert (whole["influence.record"] > 0).all()
    clock = itertools.count(0, 1000)  # every step is saved
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    for stop in (7, 12):  # within an epoch after a measurement, and right after one
        with pytest.raises(KeyboardInterrupt):
            trained(squares, tmp_path / "cut", stop)
        assert (tmp_path / "cut/state/classifier.pt").exists()
        again = trained(squares, tmp_path / "cut")
        assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_without_its_additions_pcss_learns_what_mctformer_learns() -> None:
    theirs = build("mctformer", {"drop_path": 0.0})
    ours = build("pcss", {"drop_path": 0.0, "mpc_weight": 0.0, "fss_weight": 0.0})
    base, net = theirs.build("classifier"), ours.build("classifier")
    net.load_state_dict(base.state_dict(), strict=False)
    expected = theirs.losses("classifier", {"classifier": base.eval()}, batch(), 0)
    found = ours.losses("classifier", {"classifier": net.eval()}, batch(), 0)
    assert torch.allclose(sum(found.values()), sum(expected.values()))


def test_a_pass_with_own_magnitudes_is_the_ordinary_pass() -> None:
    method = build("pcss", {"mpc_keep": 1.0})
    assert isinstance(method, PCSS)
    net, images = method.build("classifier").eval(), batch()["image"]
    with torch.inference_mode():
        first = net.encode(images, "mean", keep=(method.mixed_block(net),))
        again = method.encode_mixed(net, images, first, "mean")
    assert torch.allclose(again.scores, first.scores, atol=1e-4)
    assert torch.allclose(again.tokens, first.tokens, atol=1e-4)


def test_what_is_measured_does_not_depend_on_batches_while_quotas_last() -> None:
    net, items = build("pcss").build("classifier").eval(), batch()
    parts = [{key: value[at : at + 1] for key, value in items.items()} for at in range(4)]
    found = [
        measure(present_losses(net), batches, torch.full((3,), 9.0), 4, at_once)
        for batches, at_once in (([items], 64), (parts, 64), ([items], 1))
    ]
    for other in found[1:]:
        assert torch.allclose(found[0], other, rtol=1e-4)


def test_no_image_is_read_once_every_class_has_enough() -> None:
    net, items = build("pcss").build("classifier").eval(), batch()
    read = iter([items, items, items])
    need = torch.tensor([2.0, 1.0, 1.0])
    measure(present_losses(net), read, need, 4, 64)
    assert len(list(read)) == 1
    assert not need.any()


def test_a_crop_without_whole_pairs_of_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="crop_px is 40, but PCSS needs an even number"):
        build("pcss", augment={"crop_px": 40}).build("classifier")


def test_another_network_than_a_transformer_is_refused() -> None:
    with pytest.raises(ConfigError, match="resnet18 is no transformer"):
        build("mctformer", backbone="resnet18").build("classifier")


@pytest.mark.parametrize("version", ["v1", "v2", "plus"])
def test_every_version_learns_and_shows_maps(version: str) -> None:
    method = build("mctformer", {"version": version})
    net = method.build("classifier")
    total = torch.stack(list(method.losses("classifier", {"classifier": net}, batch(), 0).values()))
    total.sum().backward()
    learning = {name for name, weight in net.named_parameters() if weight.requires_grad}
    assert learning == {name for name, w in net.named_parameters() if w.grad is not None}
    with torch.inference_mode():
        maps = method.cam(net.eval(), torch.randn(2, 3, 40, 61))
    assert maps.shape == (2, 3, 5, 7)
    assert maps.min() >= 0
    assert maps.max() > 0


def wsss_command(*arguments: str) -> None:
    command = [sys.executable, "-m", "wsss", *arguments, "--params", "params.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mctformer", "pcss"])
def test_a_published_file_becomes_cams_and_scores_by_commands(
    squares: Index, work: Path, name: str
) -> None:
    network = {
        "checkpoint": "theirs.pth", "backbone": "deit_small_patch16_224", "weights": "imagenet",
        "stride": 16, "augment": {"crop_px": 224},
    }  # fmt: skip
    override = {"method": name, "set": {"networks": {"classifier": network}}}
    params = validate_params({"methods": [name], "overrides": {"mine": override}})
    (work / "params.json").write_text(params.model_dump_json())
    run = Run(params, "shapes", name, "common", 0)
    save_index(replace(squares, dataset="shapes"), run.index)
    torch.manual_seed(0)
    state = build_method(run, 3).build("classifier").state_dict()
    theirs = {k.removeprefix("backbone."): v for k, v in state.items() if "influence" not in k}
    wrapped = {"model": theirs, "epoch": 59} if name == "mctformer" else theirs
    torch.save(wrapped, "theirs.pth")
    for arguments in (
        ("train", str(run), "classifier"),
        ("cam", str(run), "--shard", "1-of-1"),
        ("gather", str(run), "cam"),
        ("calibrate", str(run), "cam"),
        ("evaluate", str(run), "seed"),
    ):
        wsss_command(*arguments)
    found = checkpoint.load(run.path("classifier.safetensors"))[0]
    assert all(torch.equal(found[key], value) for key, value in state.items())
    assert 0 <= read_json(run.path("eval/seed.json"))["miou"] <= 1
    assert np.isfinite(read_json(run.path("eval/seed.json"))["best"]["miou"])


def test_both_methods_are_listed() -> None:
    assert {"mctformer", "pcss"} <= set(method_spec.methods())
