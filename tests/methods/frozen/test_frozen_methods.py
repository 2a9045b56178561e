"""Decoders on a frozen CLIP: from images to scores by commands, a resumed training, words."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from killed import killed

from wsss.data.index import Index, save_index
from wsss.inference.trained import normalisation, restore
from wsss.machine.runtime import Runtime
from wsss.methods.base import load_method
from wsss.methods.clip_es.mean_features import mean_features
from wsss.nets import initial
from wsss.nets.clip_vit import SHAPES, ClipViT
from wsss.runs.inputs import initial_weights_path
from wsss.runs.run import Run
from wsss.runs.texts import text_vectors
from wsss.settings import Params
from wsss.settings.resolve import load_params, resolve_settings, validate_params
from wsss.stages.cam import cam as write_cams
from wsss.stages.decode import decode
from wsss.stages.evaluate import evaluate
from wsss.stages.gather import gather
from wsss.stages.pseudo import pseudo
from wsss.stages.train import Classification, train
from wsss.storage import checkpoint
from wsss.storage.archive import Reader
from wsss.storage.files import read_json
from wsss.training.batches import Squares, TrainingImages
from wsss.training.loop import Trainer, Training, fit

ROOT = Path(__file__).parents[3]
CPU = Runtime(torch.device("cpu"), torch.float32)
LEARNED = {"fuse", "second_fuse", "decoder"}
STORED = {
    *LEARNED,
    "classes",
    "background",
    "second_backbone",
}  # the last has random weights, no file
EARLY = {
    "weclip": {"select_from": 3},
    "weclip_plus": {"own_labels_from": 3, "own_labels_above": 0.3},
    "excel": {"guided_from": 3, "pairs_from_decoder": 5},
}


def of(name: str) -> Run:
    """Return a run whose training has eight steps."""
    network = {
        "weights": "imagenet",
        "augment": {"crop_px": 32},
        "train": {"epochs": 2, "batch": 6},
        "hyper_parameters": EARLY[name],
    }
    raw = {
        "decode": {"scales": [1.0]},
        "pseudo": {"source": "cam"},
        "methods": [name],
        "calibration": "none",
        "overrides": {"short": {"method": name, "set": {"networks": {"classifier": network}}}},
    }
    return Run.parse(f"shapes/{name}/common/s0", validate_params(raw))


def write_tower(seed: int = 0) -> Path:
    """Write initial weights of the toy's tower into the working folder."""
    torch.manual_seed(seed)
    path = initial_weights_path("clip_toy.imagenet")
    checkpoint.save(path, ClipViT(SHAPES["clip_toy"]).state_dict(), {})
    return path


@pytest.mark.parametrize("name", EARLY)
def test_from_images_to_cams_masks_labels_and_scores(work: Path, squares: Index, name: str) -> None:
    run = of(name)
    save_index(squares, run.index)
    write_tower()
    train(run, "classifier")
    path = run.path("classifier.safetensors")
    weights, _ = checkpoint.load(path)
    method = load_method(name)(run.settings.networks, len(squares.classes))
    net: Any = restore(lambda: method.build("classifier"), path, CPU)
    images = Squares(squares, squares.training(), normalisation(net), 0)
    vectors = mean_features(net.eval(), images.in_order, 32)
    assert all(torch.allclose(weights[key], vectors[key], atol=1e-4) for key in vectors)
    write_cams(run, None)
    decode(run, (1, 1))
    gather(run, "decode")
    pseudo(run)
    for what in ("seed", "decode"):
        evaluate(run, what)
        assert 0 <= read_json(run.path(f"eval/{what}.json"))["miou"] <= 1
    assert len(Reader(run.path("decode.zip")).names()) == len(squares.split("val"))


def training(run: Run, index: Index, folder: Path) -> Training:
    params = run.settings.networks["classifier"]
    method = load_method(run.method)(run.settings.networks, len(index.classes))
    torch.manual_seed(0)
    net = method.build("classifier")
    initial.load_initial(net, "backbone", initial_weights_path("clip_toy.imagenet"))
    normalise = normalisation(net)
    images = TrainingImages(index, index.training(), params.augment, normalise, 0)
    between = Squares(index, index.training(), normalise, 0)
    objective = Classification(method, "classifier", net, {}, between)
    return Training(objective, images, params.train, 0, folder / "net.safetensors", {"seed": 0})


def trained(name: str, index: Index, folder: Path) -> None:
    fit(training(of(name), index, folder), CPU)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n == "weclip" else pytest.mark.slow) for n in EARLY],
)
def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one_and_no_file_has_the_tower(
    squares: Index, work: Path, tmp_path: Path, name: str
) -> None:
    run = of(name)
    write_tower()
    fit(training(run, squares, tmp_path / "whole"), CPU)
    cut = functools.partial(training, run, squares, tmp_path / "cut")
    # One step after the decoder began to guide the labels.
    killed(trained, name, squares, tmp_path / "cut", step=4)
    state = torch.load(cut().state, weights_only=True)
    assert {key.split(".")[1] for key in state["objective"]} <= STORED
    for seed, steps in ((1, 0), (0, 4)):  # with another tower it starts again
        write_tower(seed)
        assert Trainer(cut(), CPU).resume() == steps
    assert not cut().weights.is_file()
    fit(cut(), CPU)
    whole, resumed = (
        checkpoint.load(tmp_path / f"{kind}/net.safetensors")[0] for kind in ("whole", "cut")
    )
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    started = training(run, squares, tmp_path / "start").objective.net.state_dict()
    changed = {key.partition(".")[0] for key in whole if not torch.equal(whole[key], started[key])}
    stored = {key.partition(".")[0] for key in whole}
    assert changed == LEARNED & stored  # the backbones are as they were
    assert stored <= STORED


@pytest.mark.parametrize("name", EARLY)
def test_the_published_network_is_given_the_words_of_clip_es(name: str) -> None:
    runs = [Run.parse(f"voc12/{method}/published/s0", Params()) for method in (name, "clip_es")]
    vectors, shared = text_vectors(runs[0], "classifier"), text_vectors(runs[1], "clip")
    assert vectors is not None
    assert vectors == shared
    assert text_vectors(of(name), "classifier") is None


@pytest.mark.parametrize("preset", ["voc12", "coco14"])
@pytest.mark.parametrize("name", EARLY)
def test_images_are_scaled_at_random_whatever_the_preset_says(name: str, preset: str) -> None:
    params = load_params([ROOT / "params.yaml", ROOT / f"params/{preset}.yaml"])
    for protocol in ("common", "published"):
        network = resolve_settings(params, preset, name, protocol).networks["classifier"]
        assert network.augment.long_side_px is None
        assert network.augment.scale == (0.5, 2.0)
        second = network.second_backbone
        frozen = ("backbone.*", "second_backbone.*") if second else ("backbone.*",)
        assert network.train.frozen == frozen
        assert second is None or (second.backbone, second.weights) == ("dinov2_vits14", "dinov2")
        assert network.hyper_parameters.text == "words"
        assert network.hyper_parameters.box_threshold != 0.4 or preset == "voc12"
