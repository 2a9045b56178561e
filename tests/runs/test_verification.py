"""`wsss verify`: a line for each way in which finished results are not the present ones."""

from pathlib import Path

import pytest
from answer import Answer, wsss
from made_run import make_dataset, make_run

from wsss.data.index import Index
from wsss.runs.artifacts import stage_files
from wsss.runs.run import Run
from wsss.settings import Params
from wsss.storage.files import read_json, sha256, write_json

RUN = "shapes/cam/common/s0"
FOLDER = f"work/{RUN}"


@pytest.fixture
def finished(squares: Index, work: Path) -> Run:
    """Return a run with every artifact and record."""
    (work / "params.yaml").write_text("{methods: [cam]}\n")
    run = Run(Params(), "shapes", "cam", "common", 0)
    make_run(run, make_dataset(squares, "shapes", run.params, ("a", "b", "c")))
    pictures, record = Path("work/shapes/images.zip"), "work/shapes/data.json"
    pictures.write_bytes(b"pictures")
    outputs = read_json(Path(record))["outputs"]
    edit(record, outputs={**outputs, pictures.as_posix(): sha256(pictures)})
    return run


def edit(path: str, **changes: object) -> None:
    """Change keys of a record."""
    write_json(Path(path), {**read_json(Path(path)), **changes})


def lines(answer: Answer, count: int) -> list[str]:
    """Return the lines of mismatches of a refusal that counts them."""
    answer.refuses(f"error: {count} mismatch")
    return answer.out.splitlines()


def test_one_line_says_that_all_is_well(finished: Run) -> None:
    for names in ([], [RUN], [f"work/{RUN}"], ["data", "shapes"], ["data"]):
        answer = wsss("verify", *names)
        answer.accepts()
        assert (
            answer.out == f"{' '.join(names) or 'Everything'}: all files are the recorded ones.\n"
        )


def test_records_name_every_file_of_their_stage(finished: Run) -> None:
    for stage in finished.stages():
        outputs = read_json(finished.path(f"{stage}.json"))["outputs"]
        assert list(outputs) == [path.as_posix() for path in stage_files(finished, stage)]


def test_every_file_is_compared_with_its_record(finished: Run) -> None:
    for stage in finished.stages():
        for path in stage_files(finished, stage):
            content = path.read_bytes()
            path.write_bytes(content + b" ")
            [line] = lines(wsss("verify", RUN), 1)
            assert line == f"{path} is not the file that {FOLDER}/{stage}.json describes"
            path.unlink()
            [line] = lines(wsss("verify"), 1)
            assert line == f"{path} is missing, though {FOLDER}/{stage}.json describes it"
            path.write_bytes(content)
    wsss("verify", RUN).accepts()


def test_settings_code_seed_and_inputs_are_compared(finished: Run) -> None:
    Path("params.yaml").write_text("{methods: [cam], evaluation: {seed_threshold: 0.05}}\n")
    edit(f"{FOLDER}/cam.json", code="0" * 16)
    edit(f"{FOLDER}/affinity.json", seed=7)
    edit(f"{FOLDER}/masks.json", inputs={f"{FOLDER}/segmenter.safetensors": "0" * 64})
    said = "\n".join(wsss("verify", RUN).out.splitlines())
    for line in (
        f"{RUN} eval/seed: threshold was calibrated, is 0.05",
        f"{RUN} cam: code was 0000000000000000, is {finished.code('cam')}",
        f"{RUN} affinity: seed was 7, is 0",
        f"{RUN} masks: it read another {FOLDER}/segmenter.safetensors than {RUN} segmenter",
    ):
        assert line in said


def test_missing_and_damaged_records_are_lines_too(finished: Run) -> None:
    finished.path("walk.json").unlink()
    finished.path("masks.json").write_text("{")
    found = lines(wsss("verify", RUN), 2)
    assert [line.split()[0] for line in found] == [f"{FOLDER}/walk.json", f"{FOLDER}/masks.json"]


def test_an_archive_that_no_record_names_is_refused(finished: Run) -> None:
    edit(f"{FOLDER}/pseudo.json", outputs={})
    assert f"{FOLDER}/pseudo.zip is not in {FOLDER}/pseudo.json" in wsss("verify", RUN).out


def test_a_changed_dataset_is_told_by_its_name(finished: Run) -> None:
    with Path("work/shapes/index/val.json").open("a") as index:
        index.write(" ")
    [line] = lines(wsss("verify", "data", "shapes"), 1)
    assert line == "work/shapes/index/val.json is not the file that work/shapes/data.json describes"
    Path("params.yaml").write_text("data: {shapes: {train: 9}}\n")
    assert "shapes data: data.shapes.train was 320, is 9" in wsss("verify", RUN).out


def test_unknown_names_are_refused(finished: Run) -> None:
    wsss("verify", "data", "nowhere").refuses("'nowhere' is not one of")
    wsss("verify", "nowhere").refuses("'nowhere' is not a run")
    wsss("verify", "weights", "nowhere.imagenet").refuses("1 mismatch")
