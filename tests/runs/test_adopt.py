"""`wsss adopt` takes the commit of each stage from the provenance that came with Git."""

import shutil
from pathlib import Path

import pytest
from made_run import make_dataset, make_run

from wsss.data.index import Index
from wsss.report.tables.rows import provenance
from wsss.runs import record
from wsss.runs.adopt import keep_commits
from wsss.runs.occasion import FOLDER, Occasion, read_occasion
from wsss.runs.record import Record, read_record
from wsss.runs.run import Run
from wsss.settings import Params
from wsss.storage.files import read_json, write_json

COMMIT = "c" * 40
PROVENANCE = Path("results/provenance.json")


@pytest.fixture
def pulled(squares: Index, work: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a run that was made at a commit, without what equal runs do not share."""
    monkeypatch.setattr(record, "commit", lambda: (COMMIT, False))
    run = Run(Params(), "shapes", "cam", "common", 0)
    make_run(run, make_dataset(squares, "shapes", run.params, ("a", "b", "c")))
    write_json(PROVENANCE, provenance([run]))
    shutil.rmtree(FOLDER)
    return run


def test_commits_of_a_clone_are_those_of_its_provenance(pulled: Run) -> None:
    before = read_json(PROVENANCE)
    assert {group["commit"] for group in before["made_with"][str(pulled)]} == {COMMIT}
    write_json(PROVENANCE, provenance([pulled]))
    assert {group["commit"] for group in read_json(PROVENANCE)["made_with"][str(pulled)]} == {None}
    write_json(PROVENANCE, before)
    keep_commits([pulled], PROVENANCE)
    write_json(PROVENANCE, provenance([pulled]))
    assert read_json(PROVENANCE) == before


def test_a_stage_with_other_files_has_no_commit(pulled: Run) -> None:
    path = pulled.path("walk.json")
    content = read_json(path)
    write_json(path, {**content, "outputs": dict.fromkeys(content["outputs"], "0" * 64)})
    keep_commits([pulled], PROVENANCE)
    assert read_occasion(path, read_record(path, Record).digest) == Occasion()
    earlier = pulled.path("cam.json")
    assert read_occasion(earlier, read_record(earlier, Record).digest).commit == COMMIT


def test_without_a_provenance_nothing_is_noted(pulled: Run) -> None:
    PROVENANCE.unlink()
    keep_commits([pulled], PROVENANCE)
    assert not FOLDER.exists()
