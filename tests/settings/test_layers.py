"""Layers: which source sets a key of a run, in which order, and what is said of the others."""

import re
from pathlib import Path
from typing import Any

import pytest

from wsss.errors import ConfigError
from wsss.runs.flow import Flow
from wsss.settings import history
from wsss.settings.layers import Layer
from wsss.settings.render import yaml_value
from wsss.settings.resolve import (
    layers_text,
    load_params,
    read_layers,
    resolve_settings,
    validate_layers,
)

ROOT = Path(__file__).parents[2]
MINE = "mine.yaml"


def told(settings: dict[str, Any], run: tuple[str, str, str], key: str) -> list[list[str]]:
    """Return [value, source] of each line of the history of a key under one file of settings."""
    files = [Layer(MINE, settings)]
    text = history.history(files, validate_layers(files, MINE), run, key)
    return [re.split(r" {2,}", line.strip(), maxsplit=1) for line in text.splitlines()[1:]]


def test_history_names_every_layer_of_a_section_in_order() -> None:
    settings = {
        "segmenter": {"train": {"momentum": 0.9}},
        "overrides": {
            "quiet": {"method": "mctformer", "set": {"segmenter": {"train": {"momentum": 0.3}}}}
        },
    }
    rows = told(settings, ("shapes", "mctformer", "published"), "segmenter.train.momentum")
    yaml = str(ROOT / "wsss/methods/mctformer/mctformer.yaml")
    yaml = (
        str(Path(yaml).relative_to(Path.cwd())) if Path(yaml).is_relative_to(Path.cwd()) else yaml
    )
    assert rows == [
        ["0.9", history.DEFAULTS],
        ["0.9", MINE],
        ["1.0e-05", f"segmenter preset resnet38_mctformer, named in {yaml}: published"],
        ["0.3", "overrides.quiet"],
    ]


def test_history_of_a_network_begins_with_the_classifier_of_all_runs() -> None:
    settings = {
        "classifier": {"train": {"lr": 0.01}},
        "overrides": {
            "all": {"set": {"classifier": {"train": {"lr": 0.3}}}},
            "one": {"method": "pcsformer", "set": {"networks": {"sp": {"train": {"lr": 0.4}}}}},
        },
    }
    rows = told(settings, ("shapes", "pcsformer", "common"), "networks.sp.train.lr")
    assert [row[0] for row in rows] == ["0.004", "0.01", "0.002", "0.3", "0.4"]
    assert [row[1] for row in rows][1] == MINE
    assert rows[2][1].endswith("pcsformer.yaml: networks.sp.common")
    assert [row[1] for row in rows][3:] == ["overrides.all", "overrides.one"]


@pytest.mark.parametrize("method", ["cam", "mctformer", "pcsformer", "transcam"])
@pytest.mark.parametrize("protocol", ["common", "published"])
def test_the_last_layer_of_the_history_has_the_value_of_the_run(method: str, protocol: str) -> None:
    files = read_layers([ROOT / "params.yaml", ROOT / "params/voc12.yaml"])
    params = validate_layers(files, "voc12")
    run = ("voc12", method, protocol)
    settings = resolve_settings(params, *run)
    chain = {
        f"networks.{name}.train.{key}": getattr(network.train, key)
        for name, network in settings.networks.items()
        for key in ("lr", "batch", "warmup", "freeze_norm")
    }
    values = {
        **chain,
        "cam.normalise": settings.cam.normalise,
        "segmenter.train.momentum": settings.segmenter.train.momentum,
        "walk.beta": settings.walk.beta,
    }
    for key, value in values.items():
        last = history.history(files, params, run, key).splitlines()[-1].split()[0]
        assert last == yaml_value(value)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("segmenter.train.momentun", "did you mean 'segmenter.train.momentum'?"),
        ("segmentor.train.lr", "did you mean 'segmenter'?"),
        ("networks.sp.train.lr", "unknown key networks.sp.train.lr; "),
        ("walk.beta.gamma", "it has no keys below it"),
        ("segmenter.train.horizon", "did you mean 'segmenter.train.schedule_extra_steps'?"),
        ("walk", "walk is a section. Name one of its keys: beta, log2_steps"),
    ],
)
def test_an_unknown_key_is_answered_with_a_known_one(key: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        told({}, ("shapes", "cam", "common"), key)


def test_an_override_wins_over_what_a_method_needs_for_a_network() -> None:
    override = {"method": "mctformer", "set": {"classifier": {"train": {"lr": 0.3, "epochs": 2}}}}
    params = validate_layers([Layer(MINE, {"overrides": {"mine": override}})], MINE)
    for protocol in ("common", "published"):
        train = (
            resolve_settings(params, "shapes", "mctformer", protocol).networks["classifier"].train
        )
        assert (train.lr, train.epochs) == (0.3, 2)


def test_settings_that_a_method_replaces_are_named() -> None:
    config = {"methods": ["cam", "mctformer"], "cam": {"normalise": "max"}}
    sentence = str(Flow(config).replaced())
    assert "cam.normalise (--config of Snakemake) in shapes/mctformer/common" in sentence
    assert "--run shapes/mctformer/common/s0 --why cam.normalise" in sentence
    override = {"mine": {"method": "mctformer", "set": {"cam": {"normalise": "max"}}}}
    assert Flow({**config, "overrides": override}).replaced() is None
    assert Flow({**config, "methods": ["cam"]}).replaced() is None


def test_settings_that_only_some_published_runs_replace_are_not_named() -> None:
    config = {"walk": {"beta": 3.0}, "methods": ["cam"]}
    assert Flow({**config, "protocols": ["common", "published"]}).replaced() is None
    lost = str(Flow({**config, "protocols": ["published"]}).replaced())
    assert "walk.beta (--config of Snakemake) in shapes/cam/published" in lost


def test_a_default_counts_where_a_person_wrote_it(work: Path) -> None:
    for name in ("params.yaml", "mine.yaml"):
        Path(name).write_text("classifier: {train: {lr: 0.004}}\n")
    config = {"methods": ["mctformer"]}
    assert Flow(config, ["params.yaml"]).replaced() is None
    assert "classifier.train.lr (mine.yaml)" in str(
        Flow(config, ["params.yaml", "mine.yaml"]).replaced()
    )


@pytest.mark.parametrize("preset", [None, *sorted((ROOT / "params").glob("*.yaml"))])
def test_presets_write_nothing_that_a_method_replaces(preset: Path | None, work: Path) -> None:
    files = [ROOT / "params.yaml", *([preset] if preset else [])]
    text = Flow({}, files).replaced() or ""
    settings = re.findall(r"([\w.]+) \(\S+\) in \w+/(\w+)/", text)
    assert bool(settings) == bool(text)
    # Methods on a frozen CLIP compute maps of one view at its size; presets write the views of all others.
    assert set(settings) <= {("cam.scales", "clip_es"), ("cam.stride", "clip_es")}


def test_layers_that_jobs_read_keep_their_sources_and_lead_to_the_same_settings(work: Path) -> None:
    flow = Flow({"walk": {"beta": 3.0}}, [ROOT / "params.yaml", ROOT / "params/stamps.yaml"])
    path = flow.save_params()
    assert load_params([path]) == flow.params
    sources = [layer.source for layer in read_layers([path])]
    assert sources[-1] == "--config of Snakemake"
    assert [Path(source).name for source in sources[:2]] == ["params.yaml", "stamps.yaml"]
    assert layers_text(read_layers([path])) == path.read_text()
