"""The presets at full and at toy size fit the single-stage methods under both protocols."""

import re
from pathlib import Path

import pytest

from wsss.runs.inputs import initial_weights
from wsss.runs.run import planned_runs
from wsss.settings.base import merge
from wsss.settings.resolve import RunSettings, read_yaml, resolve_settings, validate_params
from wsss.settings.weight_files import weight_files
from wsss.storage.plain_yaml import parse

ROOT = Path(__file__).parent.parent.parent
FAMILY = ("toco", "seco", "cpdgl")


def settings(preset: str, method: str, protocol: str) -> RunSettings:
    raw = read_yaml(ROOT / "params.yaml")
    raw = merge(raw, read_yaml(ROOT / f"params/{preset}.yaml"))
    params = validate_params({**raw, "methods": [method], "protocols": ["common", "published"]})
    return resolve_settings(params, params.datasets[0], method, protocol)


def test_every_preset_has_results_of_its_own() -> None:
    folders = {path.stem: read_yaml(path)["results"] for path in (ROOT / "params").glob("*.yaml")}
    assert folders == {name: f"results/{name}" for name in folders}
    assert {"voc12", "coco14", "stamps", "embedded", "smoke", "cub"} <= set(folders)


def test_a_line_of_the_preset_stamps_puts_lite2_beside_lite0() -> None:
    text = (ROOT / "params/stamps.yaml").read_text(encoding="utf-8")
    [line] = re.findall(r"^# +(variants: .*)", text, re.MULTILINE)
    raw = merge(read_yaml(ROOT / "params.yaml"), {**parse(text), **parse(line)})
    runs = {run.method: run for run in planned_runs(validate_params(raw))}
    for method, network in {"cam": "lite0", "cam-lite2": "lite2"}.items():
        for stage in ("classifier", "affinity", "segmenter"):
            [name] = initial_weights(runs[method].settings, stage).values()
            assert name == f"tf_efficientnet_{network}.imagenet"
            assert weight_files()[name].fetched


@pytest.mark.parametrize("method", FAMILY)
@pytest.mark.parametrize("preset", ["voc12", "coco14"])
def test_at_full_size_protocols_differ_in_the_mistakes_alone(preset: str, method: str) -> None:
    common, published = (
        settings(preset, method, kind).networks["classifier"] for kind in ("common", "published")
    )
    assert common.backbone == published.backbone == "vit_base_patch16_224"
    assert common.train.steps == published.train.steps
    assert common.train.warmup == published.train.warmup
    values = [network.hyper_parameters.model_dump() for network in (common, published)]
    keys = {key for key in values[0] if values[0][key] != values[1][key]}
    mistakes = {"box_in_pixels", "truncate_colours"}
    if method != "toco":
        mistakes |= {"crop_reseed", "crop_absent_tag", "crop_class_weights", "queue_as_published"}
    assert keys == mistakes


@pytest.mark.parametrize("protocol", ["common", "published"])
@pytest.mark.parametrize("method", FAMILY)
def test_the_embedded_run_trains_a_toy(method: str, protocol: str) -> None:
    found = settings("embedded", method, protocol)
    network = found.networks["classifier"]
    assert network.backbone == "vit_toy"
    assert network.weights == "none"
    assert network.hyper_parameters.hidden == 128
    assert found.decode.crf == "none"


def test_coco_has_the_order_of_the_papers() -> None:
    toco, seco = (
        settings("coco14", name, "published").networks["classifier"] for name in FAMILY[:2]
    )
    assert toco.hyper_parameters.decoder_from < toco.hyper_parameters.contrast_from
    assert seco.hyper_parameters.contrast_from < seco.hyper_parameters.decoder_from
    assert settings("coco14", "toco", "published").decode.square_first


@pytest.mark.parametrize("preset", ["stamps", "voc12", "coco14"])
def test_frozen_affinities_lie_over_every_preset(preset: str) -> None:
    raw = read_yaml(ROOT / "params.yaml")
    for name in (preset, "frozen"):
        raw = merge(raw, read_yaml(ROOT / f"params/{name}.yaml"))
    params = validate_params(raw)
    for method in params.methods:
        affinity = resolve_settings(params, params.datasets[0], method, "common").affinity
        assert (affinity.is_trained, affinity.stride) == (False, 4)
        assert affinity.initial == "tf_efficientnet_lite0.imagenet"
