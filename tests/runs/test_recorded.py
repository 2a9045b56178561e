"""A finished run has the settings of its records, whatever the parameter files say."""

from pathlib import Path

import pytest
import torch
from answer import Answer, wsss
from made_run import make_dataset, make_run
from PIL import Image

from wsss.data.index import Index
from wsss.methods.base import build_method
from wsss.nets.deeplab import build_deeplab
from wsss.runs.record import recorder
from wsss.runs.recorded import RecordedRun, recorded_run
from wsss.runs.run import Run
from wsss.settings.resolve import validate_params
from wsss.storage import checkpoint
from wsss.storage.files import read_json, write_json
from wsss.training import session

RUN = "shapes/cam/common/s0"
CLASSES = ("a", "b", "c")
SETTINGS = {
    "cam": {"scales": [1.0]},
    "segmenter": {"rates": [1, 2], "test": {"scales": [1.0], "mirror": False, "crf": "none"}},
}
PRESENT = "segmenter: {rates: [1, 2, 4], test: {scales: [0.5], crf: none}}\ncam: {scales: [2.0]}\n"


@pytest.fixture
def trained(squares: Index, work: Path) -> Run:
    """Return a run with networks of first weights and their records, made with SETTINGS."""
    (work / "params.yaml").write_text("{}\n")
    run = Run.parse(RUN, validate_params(SETTINGS))
    index = make_dataset(squares, "shapes", run.params, CLASSES)
    torch.manual_seed(0)
    nets = {
        "classifier": build_method(run, len(CLASSES)).build("classifier"),
        "segmenter": build_deeplab(run.settings.segmenter, len(CLASSES)),
    }
    for name, net in nets.items():
        path = run.path(f"{name}.safetensors")
        checkpoint.save(path, net.state_dict(), session.header(run, name, index))
        recorder(run, name).write(path.with_suffix(".json"), [run.index], [path])
    for stage in ("cam", "masks"):
        recorder(run, stage).write(run.path(f"{stage}.json"), [run.index], [])
    Image.open(squares.images[0].path).save("photo.png")
    return run


def predict(params: str, *options: str) -> tuple[Answer, dict[str, bytes]]:
    """Predict under a params.yaml with this text; return the answer and the files it wrote."""
    Path("params.yaml").write_text(params)
    answer = wsss("predict", RUN, "photo.png", *options)
    paths = sorted(Path("predictions").rglob("*.*"))
    return answer, {str(path): path.read_bytes() for path in paths}


def test_a_prediction_uses_the_settings_of_the_run(trained: Run) -> None:
    as_trained = "\n".join(f"{key}: {value}" for key, value in SETTINGS.items()).replace("'", '"')
    answer, expected = predict(as_trained.replace("False", "false"))
    answer.accepts()
    assert "settings of its records" not in answer.said
    assert any("masks/photo" in path for path in expected)
    answer, predicted = predict(PRESENT)
    answer.accepts()
    assert predicted == expected
    assert f"{RUN} has the settings of its records: cam.scales [1.0] (not [2.0])" in answer.said
    assert "segmenter.test.scales [1.0] (not [0.5])" in answer.said


def test_settings_that_no_record_holds_are_named(trained: Run) -> None:
    trained.path("masks.json").unlink()
    answer, _ = predict(PRESENT)
    answer.refuses(f"{trained.path('masks.json')} is missing, so no record has the settings")
    answer.refuses(f"segmenter.test of {RUN}")
    answer, _ = predict(PRESENT, "--params", "params.yaml")
    answer.accepts()


def test_a_network_that_is_absent_is_named_before_its_record(trained: Run) -> None:
    stages = ("segmenter", "masks", "cam")
    for stage in stages:
        trained.path(f"{stage}.json").unlink()
    answer, _ = predict(PRESENT)
    answer.refuses("cam.json are missing, so no record has the settings")
    network = trained.path("segmenter.safetensors")
    network.unlink()
    answer, _ = predict(PRESENT, "--with", "segmenter")
    records = " ".join(str(trained.path(f"{stage}.json")) for stage in stages)
    answer.refuses(f"{network} is missing. Run `snakemake --cores 1 {records}`.")


def test_a_record_of_another_version_is_named_with_its_key(trained: Run) -> None:
    path = trained.path("masks.json")
    record = read_json(path)
    write_json(path, {**record, "params": {**record["params"], "join": "sum"}})
    answer, _ = predict(PRESENT)
    answer.refuses("unknown key segmenter.test.join; did you mean 'merge'?")


@pytest.mark.slow
def test_the_exported_network_is_the_one_that_was_trained(trained: Run) -> None:
    pytest.importorskip("onnx")
    Path("params.yaml").write_text(PRESENT)
    wsss("export", "onnx", RUN, "--out", "net.onnx").accepts()
    assert Path("net.onnx").stat().st_size > 1000


def test_every_setting_of_a_run_comes_back_from_its_records(squares: Index, work: Path) -> None:
    settings = {
        **SETTINGS,
        "classifier": {"train": {"epochs": 3}},
        "affinity": {"radius": 4, "confident": {"foreground": 0.6}},
        "walk": {"beta": 3.0},
        "pseudo": {"threshold": 0.3},
        "evaluation": {"seed_threshold": 0.2, "thresholds": 20, "convention": "C", "erode_px": 3},
    }
    run = Run.parse(RUN, validate_params(settings))
    make_run(run, make_dataset(squares, "shapes", run.params, CLASSES))
    present = Run.parse(RUN, validate_params({}))
    recorded = recorded_run(present)
    assert present.slice("walk") != run.slice("walk")
    assert {stage: recorded.slice(stage) for stage in run.stages()} == {
        stage: run.slice(stage) for stage in run.stages()
    }


def test_a_variant_has_the_files_that_it_was_made_from(squares: Index, work: Path) -> None:
    def run(*, recorded: bool = False, method: str = "mine", **changes: object) -> Run:
        variants = {"mine": {"method": "cam", "set": changes}}
        chosen = validate_params({**SETTINGS, "variants": variants})
        kind = RecordedRun if recorded else Run
        return kind.parse(f"shapes/{method}/common/s0", chosen)

    walk, training = {"walk": {"beta": 3.0}}, {"classifier": {"train": {"lr": 0.5}}}
    index = make_dataset(squares, "shapes", run(**walk).params, CLASSES)
    shared = {"classifier", "cam", "calibrate-cam", "confident", "affinity"}
    assert run(recorded=True, **walk).shared == shared  # nothing is made yet
    make_run(run(method="cam", **walk), index)
    make_run(run(**walk), index)
    for changes, planned in ((walk, shared), (training, set())):
        assert run(**changes).shared == planned
        recorded = run(recorded=True, **changes)
        assert recorded.shared == shared
        assert recorded.path("cam.zip").is_file()
        assert recorded.settings.walk.beta == 3.0
    make_run(run(**training), index)
    assert run(recorded=True, **walk).shared == set()
    assert run(recorded=True, method="cam", **walk).shared == set()
