"""Parameters: one schema, every problem at once, and a slice for each stage."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wsss.errors import ConfigError
from wsss.runs.inputs import initial_weights
from wsss.runs.run import Run
from wsss.settings import Params, method_spec, presets
from wsss.settings.base import merge
from wsss.settings.render import USUAL, explain, is_usual, json_schema, params_text, setting_rows
from wsss.settings.resolve import load_params, read_yaml, resolve_settings, validate_params

ROOT = Path(__file__).parents[2]


def hyper(
    values: dict[str, object], method: str = "cam", name: str = "hyper_parameters"
) -> dict[str, object]:
    """Return parameters with an override of the hyper-parameters of a method's classifier."""
    changes = {"networks": {"classifier": {name: values}}}
    return {"methods": [method], "overrides": {"mine": {"method": method, "set": changes}}}


def test_params_yaml_and_its_schema_are_what_the_models_render() -> None:
    assert (ROOT / "params.yaml").read_text() == params_text()
    schema = (ROOT / "workflow/schemas/params.schema.json").read_text()
    assert json.loads(schema) == json_schema()


def test_params_yaml_holds_the_defaults_of_the_usual_keys() -> None:
    raw = read_yaml(ROOT / "params.yaml")
    assert validate_params(raw) == Params()
    keys = {key for key, _, kind, _ in setting_rows(Params) if kind != "section"}
    usual = leaves({**raw, "overrides": 0, "variants": 0, "data": {**raw["data"], "csv": 0}})
    assert usual == {key for key in keys if is_usual(key)}
    assert len(usual) < len(keys) / 3


def test_every_usual_key_is_a_key_or_a_section() -> None:
    assert set(USUAL) <= {key for key, *_ in setting_rows(Params)}


def test_explain_has_a_sentence_and_a_source_for_every_hyper_parameter() -> None:
    lines = explain().splitlines()
    at = lines.index("pcss: networks.classifier.hyper_parameters.mpc_keep = 0.3   (float, 0 to 1)")
    assert lines[at + 1] == (
        "    share of an image's own magnitude in the mixed one (source: PCSS's published code)"
    )
    for name in method_spec.methods():
        for network, entry in method_spec.spec(name).networks.items():
            for key in entry.hyper_parameters:
                start = f"{name}: networks.{network}.hyper_parameters.{key} = "
                assert any(line.startswith(start) for line in lines)


def test_the_schema_holds_overrides_to_the_hyper_parameters_of_their_method() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(json_schema()).is_valid
    assert check(hyper({"dropout": 0.5}))
    assert not check(hyper({"dropout": 2}))
    assert not check(hyper({"dropoff": 0.5}))
    assert check(hyper({"version": "plus"}, "mctformer"))
    assert not check(hyper({"version": "v3"}, "mctformer"))


def test_hyper_parameters_of_a_run_are_attributes_and_plain_values_in_its_slice() -> None:
    run = Run(validate_params(hyper({"dropout": 0.5})), "shapes", "cam", "common", 0)
    assert run.settings.networks["classifier"].hyper_parameters.dropout == 0.5  # type: ignore[attr-defined]
    slice_ = run.slice("classifier")
    assert slice_["hyper_parameters"] == {"dropout": 0.5}
    assert json.loads(json.dumps(slice_)) == slice_


def test_explain_has_a_sentence_for_every_key() -> None:
    explained = explain()
    for key, _, _, description in setting_rows(Params):
        assert description, f"{key} has no description"
        assert f"{key} = " in explained or f"{key}\n" in explained


@pytest.mark.parametrize("preset", sorted((ROOT / "params").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_preset_is_valid_and_resolves(preset: Path) -> None:
    params = load_params([ROOT / "params.yaml", preset])
    for dataset in params.datasets:
        for method in params.methods:
            for protocol in params.protocols:
                settings = resolve_settings(params, dataset, method, protocol)
                assert list(settings.networks) == list(method_spec.spec(method).networks)


@pytest.mark.parametrize(
    ("raw", "messages"),
    [
        ({"segmentor": {}}, ["unknown key segmentor; did you mean 'segmenter'?"]),
        ({"cam": {"scale": [1]}}, ["unknown key cam.scale; did you mean 'scales'?"]),
        (
            {"classifier": {"train": {"lr": -1}}},
            ["classifier.train.lr: Input should be greater than 0 (got -1)"],
        ),
        ({"seeds": ["a"]}, ["seeds.0: Input should be a valid integer"]),
        ({"seeds": {"a": 1}}, ["seeds: write a list, such as [a, b] (got {'a': 1})"]),
        ({"methods": "cam,supervised"}, ["'cam,supervised' is not one of cam, ", "write several as [cam, supervised]"]),
        ({"datasets": [False]}, ["datasets.0: YAML reads the words yes, no, on and off", "in quotes, as 'no'"]),
        ({"datasets": False}, ["datasets: write a list", "in quotes, as 'no'"]),
        ({"data": {"csv": {False: {"table": "x"}}}}, ["data.csv: YAML reads the words yes, no, on and off"]),
        ({"data": {"csv": {"ponds": {"table": "x", "classes": [1, 2]}}}},
         ["data.csv.ponds.classes.0: it must be a text; write it in quotes, as '1' (got 1)"]),
        ({"data": {"csv": {"ponds": {"table": "x", "separator": ""}}}},
         ["data.csv.ponds.separator: it is empty; write a text, or leave the key out (got '')"]),
        ({"data": {"voc12": {"root": "C:\\data\\VOC2012"}}},
         ["data.voc12.root: 'C:\\\\data\\\\VOC2012' is a path of Windows; write /mnt/c/data/VOC2012"]),
        ({"overrides": {"mine": {"set": {"classifier": {"checkpoint": "nets\\a.pth"}}}}},
         ["overrides.mine.set.classifier.checkpoint: ", "is a path of Windows; write nets/a.pth"]),
        ({"cam": None}, ["cam: write `key: value` lines below it, or leave it out (got None)"]),
        ({"methods": ["cma"]}, ["methods: 'cma' is not one of cam"]),
        ({"datasets": ["voc"]}, ["datasets: 'voc' is not one of shapes, stamps, voc12"]),
        ({"datasets": []}, ["datasets: name at least one"]),
        ({"protocols": []}, ["protocols: name at least one"]),
        ({"seeds": []}, ["seeds: name at least one"]),
        ({"seeds": [1, 1]}, ["seeds: one is listed twice"]),
        ({"data": {"shapes": {"min_px": 200}}}, ["min_px (200) is larger than max_px (128)"]),
        (
            {"classifier": {"train": {"batch": 9, "accumulate": 2}}},
            ["batch (9) is not a multiple of accumulate (2)"],
        ),
        (
            {"affinity": {"confident": {"foreground": 4}}},
            ["foreground and background are scores below 1"],
        ),
        ({"segmenter": {"preset": "v2"}}, ["segmenter.preset: 'v2' is not one of deeplab_v2_coco"]),
        (
            {"overrides": {"mine": {"method": "cam", "set": {"segmenter": {"preset": "v2"}}}}},
            ["segmenter.preset: 'v2' is not one of"],
        ),
        ({"pseudo": {"crf": "psi"}}, ["pseudo.crf: Input should be 'none', 'psa'"]),
        ({"overrides": {"mine": {"set": {"clasifier": {}}}}}, ["did you mean 'classifier'?"]),
        (
            {"overrides": {"mine": {"set": {"classifier": {"train": {"epoch": 1}}}}}},
            ["did you mean 'epochs'?"],
        ),
        (
            {"classifier": {"settings": {"beta": 1}}},
            ["unknown key classifier.settings; hyper-parameters belong to a network of a method"],
        ),
        (
            hyper({"dropoff": 0.1}),
            ["unknown key networks.classifier.hyper_parameters.dropoff; did you mean 'dropout'?"],
        ),
        (
            hyper({"dropout": "much"}),
            ["hyper_parameters.dropout: Input should be a valid number (got 'much')"],
        ),
        (
            hyper({"dropout": 1.5}),
            ["hyper_parameters.dropout: Input should be less than or equal to 1 (got 1.5)"],
        ),
        (
            hyper({"dropout": True}),
            ["hyper_parameters.dropout: Input should be a valid number (got True)"],
        ),
        (
            hyper({"energy_weight": 0.1}, "cpdgl"),
            ["did you mean 'dense_energy_weight'?"],
        ),
        (
            hyper({"crops": 2.5}, "cpdgl"),
            ["hyper_parameters.crops: Input should be a valid integer"],
        ),
        (hyper({"gather": "twos"}, "cpdgl"), ["Input should be 'real' or 'ones' (got 'twos')"]),
        (
            hyper({"dropout": 0.5}, name="settings"),
            ["unknown key networks.classifier.settings; did you mean 'hyper_parameters'?"],
        ),
        (
            {"segmentor": 1, "cam": {"scale": 1}, "seeds": [-1]},
            ["segmentor", "cam.scale", "seeds.0", "3 problems"],
        ),
    ],
)  # fmt: skip
def test_bad_parameters_are_all_named_in_one_line(
    raw: dict[str, object], messages: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_params(raw, "my.yaml")
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("my.yaml has ")
    for message in messages:
        assert message in text


def test_a_single_value_is_a_list_of_one() -> None:
    raw: dict[str, Any] = {
        "seeds": 3,
        "methods": "cam",
        "cam": {"scales": 0.5},
        "overrides": {"mine": {"set": {"segmenter": {"test": {"scales": 2}}}}},
        "variants": {"cam-beta": {"method": "cam", "grid": {"walk.beta": 4}}},
    }
    params = validate_params(raw)
    assert (params.seeds, params.methods, params.cam.scales) == ((3,), ("cam",), (0.5,))
    run = Run(params, "shapes", "cam", "common", 3)
    assert run.settings.segmenter.test.scales == (2,)
    assert list(params.all_variants) == ["cam-beta-4"]


@pytest.mark.parametrize("folder", ["", "work/mine", "work", "a b", "{mine}", "mine'"])
def test_results_are_kept_in_a_plain_folder_that_is_not_of_runs(folder: str) -> None:
    with pytest.raises(ConfigError, match="results: write a folder such as results/mine"):
        validate_params({"results": folder})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!python/object/apply:os.system ['touch trace']", "not valid YAML"),
        ("a: [1", "not valid YAML"),
        ("- a\n- b", "does not hold `key: value` lines"),
    ],
)
def test_hostile_or_broken_yaml_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_params([path])


def test_later_files_are_laid_over_earlier_ones_and_lists_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("seeds: [0, 1, 2]\ncam: {mirror: false, batch: 7}\n")
    (tmp_path / "b.yaml").write_text("seeds: [5]\ncam: {batch: 8}\n")
    params = load_params([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    assert params.seeds == (5,)
    assert (params.cam.mirror, params.cam.batch) == (False, 8)


def test_overrides_reach_the_runs_they_name_and_no_others() -> None:
    params = validate_params(
        {
            "datasets": ["shapes", "stamps"],
            "overrides": {"mine": {"dataset": "stamps", "set": {"cam": {"batch": 3}}}},
        }
    )
    assert resolve_settings(params, "stamps", "cam", "common").cam.batch == 3
    assert resolve_settings(params, "shapes", "cam", "common").cam == Params().cam


def test_overrides_of_a_second_file_add_to_those_of_the_first() -> None:
    first = {"overrides": {"a": {"method": "cam", "set": {"cam": {"batch": 3, "stride": 8}}}}}
    second = {
        "overrides": {"a": {"set": {"cam": {"batch": 5}}}, "b": {"set": {"walk": {"beta": 4.0}}}}
    }
    params = validate_params(merge(first, second))
    found = resolve_settings(params, "shapes", "cam", "common")
    assert (found.cam.batch, found.cam.stride, found.walk.beta) == (5, 8, 4.0)
    assert resolve_settings(params, "shapes", "supervised", "common").cam == Params().cam


def test_published_settings_are_on_under_published_alone() -> None:
    params = Params()
    assert (
        resolve_settings(params, "shapes", "cam", "published").networks["classifier"].backbone
        == "resnet50_irn"
    )
    assert (
        resolve_settings(params, "shapes", "cam", "common").networks["classifier"].backbone == "toy"
    )


@pytest.mark.parametrize(
    ("backbone", "stride", "weights"),
    [
        ("resnet50", 16, "resnet50.imagenet"),
        ("resnet50_irn", 16, "resnet50.tv_in1k.imagenet"),
        ("resnet38", 8, "resnet38.imagenet"),
    ],
)
def test_initial_weights_are_those_of_the_network_that_a_backbone_is_made_from(
    backbone: str, stride: int, weights: str
) -> None:
    part = {"backbone": backbone, "stride": stride, "weights": "imagenet"}
    settings = resolve_settings(validate_params({"classifier": part}), "shapes", "cam", "common")
    assert initial_weights(settings, "classifier") == {"backbone": weights}
    taken = validate_params({"classifier": {**part, "checkpoint": "theirs.pth"}})
    settings = resolve_settings(taken, "shapes", "cam", "common")
    assert initial_weights(settings, "classifier") == {}


def test_a_backbone_of_fixed_stride_is_refused_at_another_one_but_under_affinities() -> None:
    with pytest.raises(ConfigError, match="resnet38 has stride 8: set stride to it"):
        validate_params({"classifier": {"backbone": "resnet38", "stride": 16}})
    with pytest.raises(ConfigError, match="resnet50_irn has stride 16"):
        validate_params({"segmenter": {"backbone": "resnet50_irn"}})
    params = validate_params({"affinity": {"backbone": "resnet38", "channels": [64, 128, 256]}})
    assert (params.affinity.stride, params.affinity.channels) == (4, (64, 128, 256))


def test_what_cannot_change_a_result_is_in_no_slice() -> None:
    before = Run(Params(), "shapes", "cam", "common", 0)
    quiet = {"train": {"workers": 3, "save_seconds": 7, "tensorboard": True}}
    changed = validate_params(
        {"shards": 5, "classifier": quiet, "segmenter": quiet, "affinity": quiet}
    )
    after = Run(changed, "shapes", "cam", "common", 0)
    assert [before.slice(s) for s in before.stages()] == [after.slice(s) for s in after.stages()]


def children_cpu_s() -> float:
    """Return the CPU seconds of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_a_bad_key_is_answered_at_once_with_exit_code_two(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("segmentor: {}\n")
    began = children_cpu_s()
    done = subprocess.run(
        [sys.executable, "-m", "wsss", "params", "--params", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "did you mean 'segmenter'" in done.stderr
    assert children_cpu_s() - began < 5  # torch is not imported; a busy machine adds no CPU time


def leaves(settings: dict[str, Any], prefix: str = "") -> set[str]:
    """Return the dotted keys of nested settings."""
    inner = (leaves(v, f"{k}.") if isinstance(v, dict) else {k} for k, v in settings.items())
    return {prefix + key for keys in inner for key in keys}


def test_every_segmenter_preset_is_whole_and_valid() -> None:
    machine = {"preset", "train.precision", "train.workers", "train.save_seconds"}
    machine |= {"train.deterministic", "train.compile", "train.tensorboard", "checkpoint"}
    machine |= {"test.batch", "test.batch_megapixels"}
    wanted = leaves(Params().segmenter.model_dump()) - machine
    for name, preset in presets.segmenters().items():
        assert leaves(preset.settings) == wanted
        found = validate_params({"segmenter": {"preset": name}}).segmenter.model_dump(mode="json")
        assert merge(found, preset.settings) == found
        assert name in explain()


def test_keys_beside_a_preset_are_laid_over_it_even_with_the_value_of_the_default() -> None:
    own = {"preset": "resnet38_mctformer", "train": {"lr": 0.5, "momentum": 0.9, "epochs": 20}}
    found = validate_params({"segmenter": own}).segmenter
    assert (found.train.lr, found.train.momentum, found.train.epochs) == (0.5, 0.9, 20)
    assert (found.train.batch, found.backbone) == (4, "resnet38")
    again = validate_params(validate_params({"segmenter": own}).model_dump(mode="json"))
    assert again.segmenter == found


def test_a_preset_replaces_keys_of_earlier_files_and_later_files_change_it(tmp_path: Path) -> None:
    contents = (
        "segmenter: {backbone: toy, train: {lr: 0.5, momentum: 0.8}}",
        "segmenter: {preset: resnet38_mctformer, train: {momentum: 0.9}}",
        "segmenter: {train: {batch: 16}}",
    )
    paths = [tmp_path / f"{place}.yaml" for place in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(content)
    found = load_params(paths).segmenter
    assert (found.backbone, found.train.lr) == ("resnet38", 0.0007)
    assert (found.train.momentum, found.train.batch) == (0.9, 16)


def test_overrides_name_presets_too_and_all_their_keys_count() -> None:
    override = {"preset": "resnet38_mctformer", "train": {"warmup": 0.05, "epochs": 20}}
    params = validate_params(
        {"overrides": {"mine": {"method": "cam", "set": {"segmenter": override}}}}
    )
    changed = resolve_settings(params, "shapes", "cam", "common").segmenter
    assert (changed.backbone, changed.train.warmup, changed.train.epochs) == ("resnet38", 0.05, 20)
    other = resolve_settings(params, "shapes", "supervised", "common").segmenter
    assert other == Params().segmenter


def test_initial_weights_come_from_one_place() -> None:
    raw = {"segmenter": {"initial_file": "a.pth", "weights": "imagenet"}}
    with pytest.raises(ConfigError, match="initial_file and weights exclude each other"):
        validate_params(raw)
