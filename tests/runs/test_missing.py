"""What a plan lacks is named at once: weights, data and tables, with the way to do without."""

import re
from pathlib import Path

import pytest
import yaml
from answer import wsss
from pages import ROOT

from wsss.runs import missing as module
from wsss.runs import weights_page
from wsss.runs.missing import Plan, advice, missing_files
from wsss.runs.run import planned_runs
from wsss.runs.texts import texts_of
from wsss.settings import Params
from wsss.settings.resolve import load_params, validate_params
from wsss.settings.weight_files import weight_files

COCO_FILE = "data/pretrained/deeplabv1_resnet101-coco.pth"
CONFORMER = "work/pretrained/conformer_small_patch16.imagenet.pth"
VOC = "data/VOCdevkit/VOC2012"


@pytest.fixture(autouse=True)
def open_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let open_clip be installed, whatever this environment has: the vectors of words can be made."""
    monkeypatch.setattr(module, "find_spec", {"open_clip": True}.get)


def voc12() -> Params:
    return load_params([ROOT / "params.yaml", ROOT / "params/voc12.yaml"])


def missing(*targets: str) -> dict[str, list[str]]:
    """Return the methods that need each file that is missing from VOC's preset, by path."""
    files = missing_files(Plan.of(voc12(), targets))
    return {file.path: sorted({method for method, _ in file.users}) for file in files}


def test_every_file_that_voc_needs_is_named_with_its_methods(work: Path) -> None:
    assert missing() == {
        VOC: [],
        "data/benchmark_RELEASE/dataset": [],
        COCO_FILE: ["crt", "pcsformer"],
        "data/pretrained/resnet38_cls.pth": ["mctformer", "pcss"],
        "work/pretrained/resnet38.imagenet.pth": ["pcsformer", "semformer", "transcam"],
        CONFORMER: ["pcsformer", "transcam"],
    }


def test_the_settings_that_are_offered_need_no_file_of_weights(work: Path) -> None:
    params = voc12()
    plan = Plan.of(params)
    text = advice(plan, missing_files(plan))
    assert f"{COCO_FILE} (crt, pcsformer under published): Take the file from the drive" in text
    assert "https://drive.google.com/file/d/1lwbyAo-XTKsmQX5ZtaZv-5DQONbhJh9n" in text
    offered = yaml.safe_load(re.findall(r"^  (methods: .*)$", text, re.MULTILINE)[0])
    frozen = ["clip_es", "weclip", "weclip_plus", "excel"]
    assert offered == {"methods": ["cam", "toco", "seco", "cpdgl", *frozen, "supervised"]}
    left = Plan.of(validate_params({**params.model_dump(mode="json"), **offered}))
    assert not [file for file in missing_files(left) if file.users]
    crt = Plan.of(validate_params({**params.model_dump(mode="json"), "methods": ["crt"]}))
    assert "  protocols: [common]" in advice(crt, missing_files(crt))


def test_a_target_needs_the_files_of_its_run_alone(work: Path) -> None:
    data = [VOC, "data/benchmark_RELEASE/dataset"]
    assert list(missing("work/voc12/crt/published/s0/walk.zip")) == data
    assert list(missing("work/voc12/crt/published/s0/masks/2-of-8.zip")) == [*data, COCO_FILE]
    assert list(missing("work/voc12/transcam/common/s0/eval/seed.json")) == [*data, CONFORMER]
    assert list(missing("work/voc12/transcam/common/s0/thresholds-cam.json")) == [*data, CONFORMER]
    assert list(missing("work/voc12/index.json")) == data


def test_a_finished_stage_needs_its_file_no_longer(work: Path) -> None:
    for run in Plan.of(voc12()).runs.values():
        for stage in run.stages():
            path = run.path(f"{stage}.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (work / "work/voc12/index.json").touch()
    assert missing() == {}
    (work / "work/voc12/crt/published/s1/segmenter.json").unlink()
    assert list(missing()) == [VOC, "data/benchmark_RELEASE/dataset", COCO_FILE]
    (work / COCO_FILE).parent.mkdir(parents=True)
    (work / COCO_FILE).touch()
    assert COCO_FILE not in missing()


def test_a_missing_table_and_a_missing_checkpoint_are_named(work: Path) -> None:
    settings = {
        "datasets": ["birds"],
        "data": {"csv": {"birds": {"table": "birds.csv"}}},
        "affinity": {"checkpoint": "mine/irn.pth"},
    }
    files = [str(file) for file in missing_files(Plan.of(validate_params(settings)))]
    assert files == [
        "birds.csv: Correct data.csv.birds.table.",
        "mine/irn.pth (cam under common): Put the file there, or correct the setting.",
    ]


def test_without_a_network_files_with_an_address_are_missing_too(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WSSS_OFFLINE", "1")
    assert "data/pretrained/deit_small_patch16_224-cd65a155.pth" in missing()


def test_the_doctor_names_what_a_preset_lacks(work: Path) -> None:
    files = ("--params", str(ROOT / "params.yaml"), "--params", str(ROOT / "params/voc12.yaml"))
    answer = wsss("doctor", *files)
    assert answer.code == 1
    assert "6 files are missing that the plan needs:" in answer.out
    assert "A run fetches 9 files of weights, 1840 MB: deit_base" in answer.out
    drawn = wsss("doctor", *files[:2])
    assert drawn.code == 0
    assert "No file is missing that the plan needs" in drawn.out


def test_the_page_of_weights_is_what_the_package_writes() -> None:
    page = (ROOT / weights_page.PAGE).read_text(encoding="utf-8")
    assert page == weights_page.page(ROOT), "run `wsss params --write`"
    assert all(name in page or str(file.file) in page for name, file in weight_files().items())


@pytest.mark.parametrize("is_installed", [False, True])
def test_vectors_of_words_that_cannot_be_made_here_are_named(
    work: Path, monkeypatch: pytest.MonkeyPatch, is_installed: bool
) -> None:
    monkeypatch.setattr(module, "find_spec", {"open_clip": is_installed or None}.get)
    params = validate_params({"methods": ["clip_es"], "protocols": ["common", "published"]})
    files = missing_files(Plan.of(params))
    [text] = texts_of(planned_runs(params))
    assert [file.path for file in files] == ([] if is_installed else [str(text.path)])
    if not is_installed:
        assert files[0].users == (("clip_es", "published"),)
        assert "the extra `text`" in advice(Plan.of(params), files)
        text.path.parent.mkdir(parents=True)
        text.path.touch()
        assert missing_files(Plan.of(params)) == []
