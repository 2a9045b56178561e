"""The page on the papers' numbers: its files plan what its commands name, its numbers are the published ones."""

import json
from pathlib import Path

import pytest
import yaml
from pages import ROOT, blocks
from test_commands import commands

from wsss.runs.run import planned_runs
from wsss.settings import Params
from wsss.settings.base import merge
from wsss.settings.resolve import load_params, read_yaml

PAGE = "docs/foundation.md"
METHODS = ("clip_es", "weclip", "excel", "weclip_plus")


@pytest.fixture
def params(tmp_path: Path) -> Params:
    """Return the settings of the page, all its blocks in one file."""
    written: dict[str, object] = {}
    for number, block in enumerate(blocks(PAGE, "yaml")):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block, encoding="utf-8")
        written = merge(written, read_yaml(file))
    whole = tmp_path / "foundation.yaml"
    whole.write_text(json.dumps(written), encoding="utf-8")
    return load_params([ROOT / "params.yaml", whole])


def test_its_commands_name_stages_of_its_runs(params: Params) -> None:
    lines = [line for page, line in commands() if page == PAGE and " -- work/" in line]
    named = {line: line.partition("methods=")[2].split()[0] for line in lines}
    assert set(named.values()) == set(METHODS)
    for line, method in named.items():
        (run, *_) = planned_runs(params.model_copy(update={"methods": (method,)}))
        target, _, stage = line.partition(" -- work/")[2].partition("/eval/")
        assert target == str(run)
        assert f"eval/{stage.removesuffix('.json')}" in run.stages()


def test_its_runs_have_the_settings_that_its_numbers_need(params: Params) -> None:
    runs = {run.method: run for run in planned_runs(params)}
    assert set(runs) == {*METHODS, "clip_es-every-pixel"}
    for name in METHODS:
        (network,) = runs[name].settings.networks.values()
        assert (network.weights, network.hyper_parameters.text) == ("clip", "words")
        assert runs[name].dataset == "voc12"
    coco_masks = "data/pretrained/deeplabv1_resnet101-coco.pth"
    for name, confident in (("clip_es", 0.95), ("clip_es-every-pixel", None)):
        assert runs[name].settings.pseudo.confident == confident
        assert runs[name].settings.segmenter.initial_file == coco_masks
    assert runs["weclip"].settings.segmenter.initial_file is None


def test_its_numbers_are_the_published_ones() -> None:
    lines = (ROOT / PAGE).read_text(encoding="utf-8").splitlines()
    rows = ROOT / "wsss/report/tables/published.yaml"
    published = yaml.safe_load(rows.read_text(encoding="utf-8"))
    titles = {"clip_es": "CLIP-ES", "weclip": "WeCLIP", "excel": "ExCEL", "weclip_plus": "WeCLIP+"}
    places = {"voc12": "VOC", "coco14": "COCO"}
    method, numbers = "", set()
    for cells in ([cell.strip() for cell in line.split("|")] for line in lines if "| no |" in line):
        method = cells[1] or method
        numbers.add((method, cells[3], cells[4]))
    for row in published:
        for value in row["values"] if row["method"] in titles else ():
            place = f"{places[value['dataset']]} {value['split']}"
            assert (titles[row["method"]], place, f"{value['miou']:.1f}") in numbers
