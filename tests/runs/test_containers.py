"""What a container is given to see besides the working folder."""

import shutil
from pathlib import Path

import pytest

from wsss.runs.checkout import PACKAGE
from wsss.runs.containers import bind_variable, binds, bound_folders
from wsss.runs.flow import Flow
from wsss.settings.params import Params


@pytest.fixture
def working(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working folder beside a disk with data, where no variable names a folder."""
    for name in ("SNAKEMAKE_OUTPUT_CACHE", "XDG_CACHE_HOME", bind_variable()):
        monkeypatch.delenv(name, raising=False)
    for name in ("working/data", "disk/VOCdevkit/VOC2012", "disk/photos"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "working")
    return tmp_path / "working"


def _params(**settings: object) -> Params:
    return Params.model_validate({"datasets": ["voc12"], **settings})


def test_a_linked_dataset_is_bound_where_its_link_leads(working: Path) -> None:
    disk = working.parent / "disk"
    (working / "data/VOCdevkit").symlink_to(disk / "VOCdevkit")
    (disk / "VOCdevkit/VOC2012/JPEGImages").symlink_to(disk / "photos")
    assert bound_folders(_params()) == sorted(
        [PACKAGE.parent, disk / "VOCdevkit/VOC2012", disk / "photos"]
    )


def test_an_absolute_path_of_the_settings_is_bound_once(working: Path) -> None:
    root = working.parent / "disk/VOCdevkit/VOC2012"
    (root / "saliency").mkdir()
    data = {"voc12": {"root": str(root), "saliency": str(root / "saliency")}}
    assert root in (paths := bound_folders(_params(data=data)))
    assert root / "saliency" not in paths


def test_the_table_and_the_folder_of_own_images_are_bound(working: Path) -> None:
    table = working.parent / "disk/birds.csv"
    table.touch()
    photos = working.parent / "disk/photos"
    data = {"csv": {"birds": {"table": str(table), "root": str(photos)}}}
    assert {table, photos} <= set(bound_folders(_params(datasets=["birds"], data=data)))


def test_data_in_the_working_folder_and_of_other_datasets_need_no_bind(working: Path) -> None:
    (working / "data/VOCdevkit/VOC2012").mkdir(parents=True)
    data = {"cub": {"root": str(working.parent / "disk/photos")}}
    assert bound_folders(_params(data=data)) == [PACKAGE.parent]


def test_work_on_another_disk_and_shared_caches_are_bound(
    working: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("scratch", "cache"):
        (working.parent / name).mkdir()
    (working / "work").symlink_to(working.parent / "scratch")
    monkeypatch.setenv("SNAKEMAKE_OUTPUT_CACHE", str(working.parent / "cache"))
    assert {working.parent / "scratch", working.parent / "cache"} <= set(bound_folders(_params()))


def test_jobs_inherit_the_binds_after_those_of_the_user(
    working: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (working / "data/VOCdevkit").symlink_to(working.parent / "disk/VOCdevkit")
    monkeypatch.setenv(bind_variable(), "/mine:/inside")
    variables = Flow({"datasets": ["voc12"], "methods": ["cam"]}).environment()
    paths = variables[bind_variable()].split(",")
    assert paths[0] == "/mine:/inside"
    assert str(working.parent / "disk/VOCdevkit/VOC2012") in paths
    monkeypatch.setenv(bind_variable(), variables[bind_variable()])
    assert binds(_params()) == {bind_variable(): variables[bind_variable()]}


def test_a_path_that_the_variable_cannot_hold_is_left_out(working: Path) -> None:
    strange = working.parent / "disk/a,b"
    shutil.copytree(working.parent / "disk/photos", strange)
    data = {"voc12": {"root": str(strange)}}
    assert strange in bound_folders(_params(data=data))
    assert str(strange) not in binds(_params(data=data)).get(bind_variable(), "")
