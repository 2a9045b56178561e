"""The results of a run, read from any folder; the files stay as they are."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import wsss
from wsss.data import labelmap
from wsss.errors import ConfigError, DatasetError, MissingError
from wsss.runs.run import Run
from wsss.settings import Params
from wsss.storage.archive import Reader
from wsss.storage.cam_archive import CamReader

RUN = "shapes/cam/common/s0"
NAME = "train-00004"
Ask = Callable[[wsss.RunResults], object]


@pytest.fixture
def run(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> wsss.RunResults:
    """Return the run, opened from another folder."""
    monkeypatch.chdir(tmp_path)
    return wsss.open_run(RUN, root=study)


def test_scores_are_those_of_the_table(run: wsss.RunResults) -> None:
    table = run.table().set_index("stage")
    assert list(table.index) == ["seed", "walk", "pseudo", "segmentation"] == list(run.finished)
    for stage in run.stages:
        assert run.score(stage).miou == table.miou[stage]
    assert pd.api.types.is_float_dtype(table.miou)
    assert 0 < run.score("seed").miou < 1


def test_the_table_is_the_one_that_the_command_writes(
    run: wsss.RunResults, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wsss.report.tables.long import to_csv
    from wsss.report.tables.rows import collect, compared, table_rows

    monkeypatch.chdir(study)
    scores = collect([Run.parse(RUN, Params())])
    Path(run.folder.parents[4], "table.csv").write_text(
        to_csv(compared(table_rows(scores), scores))
    )
    written = pd.read_csv(run.folder.parents[4] / "table.csv").set_index("stage")
    table = run.table().set_index("stage")
    assert list(written.columns) == list(table.columns)
    for column in ("miou", "images", "split", "data", "crf", "settings"):
        assert list(written[column]) == list(table[column])


def test_maps_are_those_of_the_archive(run: wsss.RunResults) -> None:
    for stage in ("cam", "walk"):
        stored = CamReader(run.folder / f"{stage}.zip")[NAME]
        cam = run.cam(NAME, stage)
        np.testing.assert_array_equal(cam.maps, stored.full())
        np.testing.assert_array_equal(cam.small, stored.cam)
        assert type(cam.maps) is np.ndarray
        assert cam.maps.dtype == np.float32
    assert cam.classes == run.image_labels(NAME)
    assert [run.classes[label - 1] for label in cam.labels] == list(cam.classes)
    np.testing.assert_array_equal(cam[cam.classes[0]], cam.maps[0])
    assert cam.background is None
    with pytest.raises(DatasetError, match="no map of 'dog'"):
        cam["dog"]


def test_labels_are_those_that_the_scores_count(run: wsss.RunResults) -> None:
    archive = Reader(run.folder / "pseudo.zip")
    stored = labelmap.decode(archive.read(f"{NAME}.png"), NAME)
    np.testing.assert_array_equal(run.labels("pseudo", NAME), stored)
    for stage in run.stages:
        counts = sum(
            wsss.confusion(run.truth(name), run.labels(stage, name), 4)
            for name in run.scored_images(stage)
        )
        np.testing.assert_array_equal(counts, run.score(stage).confusion)
        assert wsss.mean_iou(counts) == pytest.approx(run.score(stage).miou, abs=1e-6)


def test_the_curve_of_the_seed_is_that_of_the_evaluation(run: wsss.RunResults) -> None:
    images = (
        (run.truth(name), run.cam(name).maps, run.cam(name).labels)
        for name in run.scored_images("seed")
    )
    thresholds, miou = wsss.threshold_curve(images, classes=4, thresholds=20)
    curve = run.score("seed").curve
    assert curve is not None
    np.testing.assert_allclose(thresholds, curve.thresholds, atol=1e-6)
    np.testing.assert_allclose(miou, curve.miou, atol=1e-6)  # the file has six decimals


def test_images_and_truths_come_with_their_names(run: wsss.RunResults) -> None:
    assert run.images() == [*run.images("train"), *run.images("val")]
    assert len(run.images("train")) == 8
    assert run.image(NAME).shape == (*run.truth(NAME).shape, 3)
    labels = set(np.unique(run.truth(NAME))) - {0}
    assert {run.classes[label - 1] for label in labels} == set(run.image_labels(NAME))


def test_nothing_changes_the_working_folder_and_the_home_folder_is_expanded(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(study.parent))
    run = wsss.open_run(f"work/{RUN}", root=f"~/{study.name}")
    assert run.folder == study / "work" / RUN
    assert run.image(NAME).shape[2] == 3
    assert run.score("pseudo").miou >= 0
    assert Path.cwd() == tmp_path
    assert not list(tmp_path.iterdir())
    assert repr(run) == f"wsss.open_run({RUN!r}, root={str(study)!r})"


def test_a_relative_root_stays_where_it_was(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study.parent)
    run = wsss.open_run(RUN, root=study.name)
    monkeypatch.chdir(tmp_path)
    assert run.cam(NAME).maps.shape[1:] == run.image(NAME).shape[:2]


def test_two_folders_are_read_in_one_process(study: Path, other_study: Path) -> None:
    first, second = (wsss.open_run(RUN, root=folder) for folder in (study, other_study))
    for run, folder in ((first, study), (second, other_study), (first, study)):
        stored = CamReader(folder / "work" / RUN / "cam.zip")[NAME]
        np.testing.assert_array_equal(run.cam(NAME).small, stored.cam)
    assert (first.cam(NAME).small != second.cam(NAME).small).any()
    networks = [wsss.load(RUN, root=folder) for folder in (study, other_study)]
    for run, model in zip((first, second), networks, strict=True):
        cam = model.cam(run.image(NAME), run.image_labels(NAME))
        np.testing.assert_allclose(cam.small, run.cam(NAME).small, atol=1e-3)  # 16 bits


def test_parameters_of_the_folder_count_and_methods_of_ones_own_are_found_there(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "study"
    shutil.copytree(study, other)
    (other / "mine").mkdir()
    (other / "params.yaml").write_text("methods_path: [mine]\npreset: small\n")
    (other / "params").mkdir()
    (other / "params/small.yaml").write_text("seeds: [3]\n")
    monkeypatch.chdir(tmp_path)
    assert wsss.open_run(RUN, root=other).table().miou.notna().all()
    (other / "odd.yaml").write_text("sedes: [3]\n")
    with pytest.raises(ConfigError, match=r"odd.yaml has 1 problem: unknown key sedes"):
        wsss.open_run(RUN, root=other, params="odd.yaml")


def test_a_table_of_several_runs_has_all_their_rows(run: wsss.RunResults) -> None:
    assert len(wsss.table([run])) == 4
    with pytest.raises(MissingError, match="No masks are scored in an empty list"):
        wsss.table([])


@pytest.mark.parametrize(
    ("ask", "kind", "message"),
    [
        (lambda run: run.score("sead"), ConfigError, "no stage 'sead'. It has seed, walk, pseudo"),
        (lambda run: run.labels("boxes", NAME), ConfigError, "no stage 'boxes'"),
        (lambda run: run.cam(NAME, "walks"), ConfigError, "no maps 'walks'. It has cam, walk"),
        (lambda run: run.cam("train-4"), DatasetError, "no image 'train-4'"),
        (lambda run: run.images("dev"), ConfigError, "'dev' is not a split"),
        (lambda run: run.labels("pseudo", "val-00000"), MissingError, "val-00000"),
    ],
)
def test_a_name_that_is_not_there_is_answered_with_one_line(
    run: wsss.RunResults, ask: Ask, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        ask(run)
    assert isinstance(caught.value, wsss.WsssError)
    assert "\n" not in str(caught.value)


def test_a_run_that_is_not_there_is_answered_with_those_that_are(
    study: Path, tmp_path: Path
) -> None:
    with pytest.raises(MissingError, match=f"The runs there are {RUN}"):
        wsss.open_run("shapes/cam/common/s7", root=study)
    with pytest.raises(MissingError, match="Set root to the folder that holds `work/`"):
        wsss.open_run(RUN, root=tmp_path)
    with pytest.raises(ConfigError, match="is not a run"):
        wsss.open_run("shapes", root=study)


def test_a_stage_that_is_not_scored_yet_is_named(other_study: Path) -> None:
    run = wsss.open_run(RUN, root=other_study)
    assert run.finished == ()
    with pytest.raises(MissingError, match=r"eval/seed.json"):
        run.score("seed")
    with pytest.raises(MissingError, match="No masks are scored"):
        run.table()
