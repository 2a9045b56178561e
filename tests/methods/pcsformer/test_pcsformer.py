"""PCSformer through its stages: the chain, interruptions, published files, saliency."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from killed import KilledError, killed_at
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from wsss.cli import app
from wsss.data import labelmap
from wsss.data.index import Index, load_index, save_index
from wsss.errors import ConfigError, DatasetError
from wsss.methods.base import Computed, build_method
from wsss.runs.flow import Flow
from wsss.runs.run import Run
from wsss.settings.base import merge
from wsss.settings.resolve import validate_params
from wsss.stages.pseudo import pseudo
from wsss.stages.train import train
from wsss.storage import archive, checkpoint
from wsss.storage.archive import Reader
from wsss.storage.cam_archive import Cam, CamReader, pack
from wsss.storage.files import checksum, read_json

RUN = "shapes/pcsformer/common/s0"
CHAIN = ("pc", "features", "subprototypes", "sp")
SMALL = {"augment": {"crop_px": 48}, "train": {"epochs": 2, "batch": 8, "precision": "fp32"}}
TINY = {
    "pc": {**SMALL, "hyper_parameters": {"second_view_px": 24}},
    "features": {"hyper_parameters": {"side_px": 32}},
    "subprototypes": {"hyper_parameters": {"clusters": 2}},
    "sp": SMALL,
}
THEIRS = [  # our names in the published files
    (r"^backbone\.stages\.(\d+)\.", r"conv_trans_\1."),
    (r"^backbone\.", ""),
    (r"^(conv|token)_head\.", r"\1_cls_head."),
    (r"^(conv|token)_clusters\.", r"\1_cls_head_200."),
    (r"^token_cls", "trans_cls"),
]


def settings(method: str = "pcsformer", **networks: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with tiny networks, to which those of `networks` are added."""
    own = merge(TINY, networks)
    if method == "transcam":
        own = {"pc": merge(SMALL, networks.get("pc", {}))}
    return {
        "methods": [method],
        "calibration": "none",
        "cam": {"scales": [1.0]},
        "overrides": {"tiny": {"method": method, "set": {"networks": own}}},
    }


@pytest.fixture
def run(squares: Index, work: Path) -> Run:
    """Return a run on the squares."""
    del work
    made = Run.parse(RUN, validate_params(settings()))
    save_index(replace(squares, dataset="shapes"), made.index)
    return made


def test_a_chain_killed_inside_its_trainings_ends_the_same(run: Run) -> None:
    whole = {}
    for name in CHAIN:
        train(run, name)
        whole[name] = run.path(f"{name}.safetensors").read_bytes()
    for name in CHAIN:
        run.path(f"{name}.safetensors").unlink()
    for name in CHAIN:
        if name in ("pc", "sp"):
            with pytest.MonkeyPatch.context() as monkeypatch:
                killed_at(monkeypatch, 4)
                with pytest.raises(KilledError):
                    train(run, name)
        train(run, name)
        assert run.path(f"{name}.safetensors").read_bytes() == whole[name], name
    check_what_was_derived(run)


def check_what_was_derived(run: Run) -> None:
    images = load_index(run.index).training()
    features, _ = checkpoint.load(run.path("features.safetensors"))
    found, header = checkpoint.load(run.path("subprototypes.safetensors"))
    assert features["features"].shape == (len(images), 128)
    clusters = found["clusters"]
    labels = [[int(n) for n in (row >= 0).nonzero()[:, 0]] for row in clusters]
    assert labels == [load_index(run.index).numbers(image.labels) for image in images]
    assert clusters.max() == 1
    assert header["network"] == "subprototypes"
    record = read_json(run.path("sp.json"))
    assert run.path("subprototypes.safetensors").as_posix() in record["inputs"]
    assert [stage for stage in run.stages() if run.path(f"{stage}.csv").exists()] == list(CHAIN)


def test_images_learn_their_own_clusters_unless_the_published_order_is_asked_for() -> None:
    method = build_method(Run.parse(RUN, validate_params(settings())), 3)
    present = torch.tensor([[0, 0, 1], [1, 0, 0], [0, 1, 0], [1, 0, 1]])
    features = Computed({"features": torch.randn(4, 8), "present": present})
    aligned = method.compute("subprototypes", {"features": features}, lambda *_: iter(()))
    assert torch.equal(aligned["clusters"] >= 0, present > 0)
    changed = settings(subprototypes={"hyper_parameters": {"order": "upstream"}})
    method = build_method(Run.parse(RUN, validate_params(changed)), 3)
    upstream = method.compute("subprototypes", {"features": features}, lambda *_: iter(()))
    assert torch.equal(upstream["clusters"], aligned["clusters"][[1, 3, 2, 0]])


def test_stages_follow_the_chain_and_a_network_before_the_last_is_scored_too() -> None:
    run = Run.parse(RUN, validate_params(settings()))
    assert run.stages()[:8] == [
        "pc", "cam-pc", "eval/seed-pc", "features", "subprototypes", "sp", "cam", "eval/seed",
    ]  # fmt: skip
    assert run.trained == ["pc", "sp", "affinity", "segmenter"]
    assert run.slice("cam-pc") == run.slice("cam")
    taken = Run.parse(RUN, validate_params(settings(sp={"checkpoint": "sp.pth"})))
    assert taken.stages()[:3] == ["sp", "cam", "eval/seed"]
    both = settings(sp={"checkpoint": "sp.pth"}, pc={"checkpoint": "pc.pth"})
    assert Run.parse(RUN, validate_params(both)).networks == ["pc", "sp"]


def published(run: Run, name: str) -> dict[str, Tensor]:
    """Write random weights of a network as its authors would; return them in our names."""
    torch.manual_seed(3)
    state = build_method(run, 3).build(name).state_dict()
    torch.save(checkpoint.rename(state, THEIRS), f"{name}.pth")
    return state


@pytest.mark.parametrize("method", ["pcsformer", "transcam"])
def test_published_files_lead_to_cams_and_scores_by_commands(run: Run, method: str) -> None:
    own = Run.parse(RUN.replace("pcsformer", method), validate_params(settings(method)))
    names = ["pc", "sp"] if method == "pcsformer" else ["pc"]
    states = {name: published(own, name) for name in names}
    files = {name: {"checkpoint": f"{name}.pth"} for name in names}
    Path("params.yaml").write_text(yaml.safe_dump(settings(method, **files)))
    for name in names:
        suffix = "" if name == names[-1] else f"-{name}"
        for command in (
            ["train", str(own), name],
            ["cam", str(own), name],
            ["gather", str(own), f"cam{suffix}"],
            ["evaluate", str(own), f"seed{suffix}"],
        ):
            assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
        found, _ = checkpoint.load(own.path(f"{name}.safetensors"))
        assert all(torch.equal(found[key], value) for key, value in states[name].items())
        assert 0 <= read_json(own.path(f"eval/seed{suffix}.json"))["miou"] <= 1
        cams = CamReader(own.path(f"cam{suffix}.zip"))
        assert np.isfinite([cams[image].cam.astype(np.float32).max() for image in cams]).all()
    assert not own.path("features.safetensors").exists()


def test_what_is_derived_takes_no_published_file(run: Run) -> None:
    changed = validate_params(settings(features={"checkpoint": "features.pth"}))
    with pytest.raises(ConfigError, match=r"networks\.features is computed from other networks"):
        train(Run.parse(RUN, changed), "features")


def test_a_backbone_that_is_no_conformer_is_refused() -> None:
    run = Run.parse(RUN, validate_params(settings(pc={"backbone": "resnet18"})))
    with pytest.raises(ConfigError, match="resnet18 is not a Conformer.*conformer_toy"):
        build_method(run, 3).build("pc")


def test_cams_of_an_unknown_network_are_refused(run: Run) -> None:
    Path("params.yaml").write_text(yaml.safe_dump(settings()))
    result = CliRunner().invoke(app, ["cam", str(run), "features"])
    assert "has no CAMs of a network 'features'; it has them of pc, sp" in str(result.exception)


def job(network: str = "sp") -> Any:
    """Return the wildcards of a job of the run."""
    dataset, method, protocol, seed = RUN.split("/")
    return SimpleNamespace(
        dataset=dataset,
        method=method,
        protocol=protocol,
        seed=seed.removeprefix("s"),
        network=network,
        cams="cam-pc",
    )


def test_rules_know_what_comes_before_each_network() -> None:
    flow = Flow(settings())
    folder = f"work/{RUN}"
    assert flow.before(job()) == [f"{folder}/subprototypes.safetensors"]
    assert flow.cam_source_file(job()) == f"{folder}/pc.safetensors"
    assert flow.maps(job()) == [f"{folder}/walk.zip"]
    features = job("features")
    assert flow.before(features) == [f"{folder}/pc.safetensors"]
    assert flow.weights("{network}")(features) == []


def with_saliency(run: Run, value: int) -> Index:
    """Give every image a saliency map of one value."""
    index = load_index(run.index)
    images = []
    for image in index.images:
        path = Path(f"saliency-{image.name}.png")
        Image.fromarray(np.full(image.size, value, np.uint8)).save(path)
        digits = checksum(path.read_bytes())
        images.append(replace(image, saliency=str(path), saliency_checksum=digits))
    made = replace(index, images=tuple(images))
    save_index(made, run.index)
    return made


def walked(run: Run, index: Index) -> None:
    """Write maps of one score that all reach the labels of their images, as CAMs and walked."""
    for name in ("cam", "walk"):
        with archive.Writer(run.path(f"{name}.zip")) as writer:
            for image in index.training():
                labels = np.array(index.numbers(image.labels), np.int16)
                maps = np.zeros((len(labels), *image.size), np.float16)
                maps[:, :5] = 1
                writer.add(f"{image.name}.npz", pack(Cam(labels, maps, image.size, 1)))


@pytest.mark.parametrize("value", [255, 0])
def test_labels_stay_where_saliency_and_attention_agree(run: Run, value: int) -> None:
    raw = settings() | {"pseudo": {"saliency": {"use": True}}}
    own = Run.parse(RUN, validate_params(raw))
    index = with_saliency(run, value)
    walked(own, index)
    pseudo(own)
    reader, single = (
        Reader(own.path("pseudo.zip")),
        [e for e in index.training() if len(e.labels) == 1],
    )
    for image in single:
        found = labelmap.decode(reader.read(f"{image.name}.png"), image.name)
        number = index.numbers(image.labels)[0] + 1
        if value:  # salient everywhere: what is not attended may not be background
            assert (found[:5] == number).all()
            assert (found[5:] == 255).all()
        else:  # salient nowhere: attention and background conflict
            assert (found == 255).all()
    record = read_json(own.path("pseudo.json"))
    assert own.path("cam.zip").as_posix() in record["inputs"]
    assert Flow(raw).maps(job()) == [f"work/{RUN}/walk.zip", f"work/{RUN}/cam.zip"]


def test_saliency_that_is_not_there_stops_before_any_work(run: Run) -> None:
    own = Run.parse(RUN, validate_params(settings() | {"pseudo": {"saliency": {"use": True}}}))
    with pytest.raises(DatasetError, match=r"have no saliency map.*pseudo.saliency.use: false"):
        pseudo(own)
