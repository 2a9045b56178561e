"""Methods in the user's folders: found, imported, explained, and answered in one line if wrong."""

import re
from pathlib import Path

import pytest
import torch
from pages import blocks

from wsss.errors import ConfigError
from wsss.methods.base import build_method, load_method
from wsss.runs.flow import Flow
from wsss.runs.run import Run
from wsss.settings import method_spec
from wsss.settings.render import explain
from wsss.settings.resolve import load_params, validate_params

SETTINGS, OVERRIDE = blocks("docs/add-a-method.md", "yaml")[:2]
(MODULE,) = blocks("docs/add-a-method.md", "python")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder my_methods of the working directory, with the method of the documentation."""
    monkeypatch.chdir(tmp_path)
    method = tmp_path / "my_methods" / "topk"
    method.mkdir(parents=True)
    (method / "topk.yaml").write_text(SETTINGS)
    (method / "method.py").write_text(MODULE)
    return tmp_path / "my_methods"


def raw(**more: object) -> dict[str, object]:
    return {"methods": ["topk"], "methods_path": ["my_methods/"], **more}


def problem(folders: tuple[str, ...] = ("my_methods/",)) -> str:
    """Return the one line that parameters with the method are answered with."""
    with pytest.raises(ConfigError) as caught:
        Flow(raw(methods_path=list(folders)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_own_method_is_in_the_plan_with_its_settings(folder: Path) -> None:
    flow = Flow(raw())
    (run,) = flow.runs
    assert re.fullmatch(flow.constraints()["method"], "topk")
    assert run.stages()[:2] == ["classifier", "cam"]
    assert run.slice("classifier")["hyper_parameters"] == {"share": 0.2}
    assert load_params([flow.save_params()]).methods_path == ("my_methods/",)
    assert "topk: networks.classifier.hyper_parameters.share = 0.2" in explain(("my_methods",))
    assert "topk" not in method_spec.methods()


def test_its_code_trains_and_its_hyper_parameters_are_validated(folder: Path) -> None:
    changes = {"networks": {"classifier": {"hyper_parameters": {"share": 0.5}}}}
    overrides = {"mine": {"method": "topk", "set": changes}}
    run = Run.parse("shapes/topk/common/s0", validate_params(raw(overrides=overrides)))
    method = build_method(run, 3)
    net = method.build("classifier")
    assert net.share == 0.5
    batch = {"image": torch.randn(2, 3, 32, 32), "label": torch.eye(3)[:2]}
    method.losses("classifier", {"classifier": net}, batch, 0)["labels"].backward()
    assert method.cam(net.eval(), batch["image"]).shape[:2] == (2, 3)
    changes["networks"]["classifier"]["hyper_parameters"] = {"shares": 1}
    with pytest.raises(ConfigError, match=r"hyper_parameters.shares; did you mean 'share'"):
        validate_params(raw(overrides=overrides))


def test_its_modules_import_each_other_and_other_folders_replace_them(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "topk/method.py").write_text(
        "from own_methods.topk.network import MARK\nfrom .network import MARK as same\n"
        "from wsss.methods.cam.method import CAM\n\n"
        "class TopK(CAM):\n    mark = (MARK, same)\n\nMETHOD = TopK\n"
    )
    (folder / "topk/network.py").write_text("MARK = 1\n")
    assert load_method("topk", ("my_methods",)).mark == (1, 1)
    other = tmp_path / "others"
    folder.rename(other)
    (other / "topk/network.py").write_text("MARK = 'two'\n")
    assert load_method("topk", ("others",)).mark == ("two", "two")


def test_its_fingerprint_follows_its_code(folder: Path, tmp_path: Path) -> None:
    code = Run.parse("shapes/topk/common/s0", validate_params(raw())).code("classifier")
    other = tmp_path / "others"
    folder.rename(other)
    (other / "topk/method.py").write_text(MODULE.replace("values.mean(2)", "values.sum(2)"))
    params = validate_params(raw(methods_path=["others"]))
    assert Run.parse("shapes/topk/common/s0", params).code("classifier") != code


def test_a_missing_folder(folder: Path) -> None:
    assert f"methods_path: there is no folder {folder.parent / 'none'}" in problem(("none",))


def test_a_name_that_a_built_in_method_has(folder: Path) -> None:
    (folder / "topk/topk.yaml").rename(folder / "topk/cam.yaml")
    text = problem()
    assert "my_methods/topk/cam.yaml: the name 'cam' is taken by a built-in method" in text


def test_a_name_that_two_folders_have(folder: Path) -> None:
    again = folder / "again"
    again.mkdir()
    (again / "topk.yaml").write_text(SETTINGS)
    assert "the name 'topk' is taken by the method in my_methods/again/topk.yaml" in problem()


def test_a_folder_name_that_two_folders_have(folder: Path) -> None:
    again = folder.parent / "others" / "topk"
    again.mkdir(parents=True)
    (again / "second.yaml").write_text(SETTINGS)
    assert (
        "others/topk/second.yaml: its folder has the name of the folder of my_methods/topk/topk.yaml"
        in problem(("my_methods", "others"))
    )


def test_a_name_that_is_not_one(folder: Path) -> None:
    (folder / "topk/topk.yaml").rename(folder / "topk/top-k.yaml")
    assert "my_methods/topk/top-k.yaml: 'top-k' is not a name of a method" in problem()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "it has no `key: value` lines"),
        ("a: [", "while parsing"),
        (SETTINGS.replace("title:", "titel:"), "title: Field required; titel: Extra inputs"),
        (
            SETTINGS.replace("cam_network: classifier", "cam_network: other"),
            "'other' is not one of",
        ),
        (SETTINGS.replace("default: 0.2", "default: 2.0"), "share: Input should be less than"),
        (re.sub(r"\n *source:.*", "", SETTINGS), "hyper_parameters.share.source: Field required"),
        (f"{SETTINGS}like: none\n", "like: there is no other method 'none'"),
        (f"{SETTINGS}like: topk\n", "like: there is no other method 'topk'"),
        (f"{SETTINGS}module: net\n", "net.py is not beside it, and its class belongs there"),
    ],
)
def test_a_yaml_file_that_does_not_describe_a_method(folder: Path, text: str, message: str) -> None:
    (folder / "topk/topk.yaml").write_text(text)
    answer = problem()
    assert "my_methods/topk/topk.yaml does not describe a method: " in answer
    assert message in answer
    assert "docs/add-a-method.md" in answer


def test_a_module_without_a_method(folder: Path) -> None:
    (folder / "topk/method.py").write_text(MODULE.replace("METHOD = TopK", ""))
    assert "topk/method.py does not say which class is the method: end it with METHOD" in problem()
    (folder / "topk/method.py").write_text(MODULE.replace("METHOD = TopK", "METHOD = TopKNet"))
    with pytest.raises(ConfigError, match=r"topk/method.py does not say which class is the method"):
        load_method("topk", ("my_methods",))


def test_a_module_that_is_not_python(folder: Path) -> None:
    (folder / "topk/method.py").write_text("class TopK(:\n")
    assert re.search(r"topk/method.py is not valid Python: .*line 1", problem())
    (folder / "topk/method.py").write_text(f"from .network import Net\n{MODULE}")
    (folder / "topk/network.py").write_text("class Net(:\n")
    params = validate_params(raw())
    with pytest.raises(ConfigError, match=r"topk/network.py is not valid Python: .*line 1"):
        Run.parse("shapes/topk/common/s0", params).code("classifier")


def test_a_variant_of_an_own_method_in_another_folder(folder: Path) -> None:
    (folder / "variants").mkdir()
    (folder / "variants/half.yaml").write_text(
        "like: topk\ntitle: half\nnetworks: {classifier: {hyper_parameters: {share: {default: 0.5}}}}\n"
    )
    run = Run.parse("shapes/half/common/s0", validate_params(raw(methods=["half"])))
    assert run.spec.module == "own_methods.topk.method"
    assert build_method(run, 3).build("classifier").share == 0.5
    assert len(run.code("classifier")) == 16


def test_a_variant_with_a_module_of_its_own(folder: Path) -> None:
    (folder / "variants").mkdir()
    (folder / "variants/half.yaml").write_text("like: topk\ntitle: half\nmodule: half\n")
    with pytest.raises(ConfigError, match="half.py is not beside it"):
        method_spec.spec("half", ("my_methods",))
    (folder / "variants/half.py").write_text("from own_methods.topk.method import METHOD\n")
    run = Run.parse("shapes/half/common/s0", validate_params(raw(methods=["half"])))
    assert run.spec.module == "own_methods.variants.half"
    assert type(build_method(run, 3)).__name__ == "TopK"


def test_a_variant_of_a_built_in_method(folder: Path) -> None:
    (folder / "topk/dropped.yaml").write_text(
        "like: cam\ntitle: CAM with dropout\n"
        "networks: {classifier: {hyper_parameters: {dropout: {default: 0.5}}}}\n"
    )
    spec = method_spec.spec("dropped", ("my_methods",))
    assert spec.module == "wsss.methods.cam.method"
    assert spec.networks["classifier"].model().dropout == 0.5
