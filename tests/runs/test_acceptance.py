"""A change of code alone can be accepted; the records, the tables and the provenance say so."""

import json
import subprocess
from pathlib import Path

import pytest
from answer import wsss
from made_run import make_dataset, make_run

from wsss.data.index import Index
from wsss.report.tables.rows import provenance
from wsss.runs import origin as origins
from wsss.runs.acceptance import noted_code
from wsss.runs.run import Run
from wsss.settings import Params
from wsss.storage.files import read_json, write_json

RUN = "shapes/cam/common/s0"
REASON = "renames a variable"
OLD = "0123456789abcdef"


@pytest.fixture
def finished(squares: Index, work: Path) -> Run:
    """Return a run with every artifact and record."""
    (work / "params.yaml").write_text("datasets: [shapes]\nmethods: [cam]\nprotocols: [common]\n")
    run = Run(Params(), "shapes", "cam", "common", 0)
    make_run(run, make_dataset(squares, "shapes", run.params, ("a", "b", "c")))
    return run


def change(path: Path, **content: object) -> None:
    write_json(path, {**read_json(path), **content})


def test_old_code_is_refused_until_it_is_accepted(finished: Run) -> None:
    path = finished.path("walk.json")
    change(path, code=OLD)
    time = path.stat().st_mtime_ns
    said = wsss("table", "--method", "cam")
    said.refuses("walk: code was 0123456789abcdef, is ")
    said.refuses('`wsss accept RUN --because "REASON"`')
    wsss("evaluate", RUN, "walk").refuses(f"`wsss accept {RUN} walk --because")
    wsss("accept", RUN, "--because", REASON).accepts()
    (accepted,) = read_json(path)["accepted"]
    assert (accepted["was"], accepted["now"]) == (OLD, finished.code("walk"))
    assert accepted["because"] == REASON
    assert path.stat().st_mtime_ns == time
    assert noted_code(path, finished.code("walk")) == OLD
    assert noted_code(path, "another") == "another"
    wsss("table", "--method", "cam").accepts()
    wsss("verify", RUN).accepts()
    again = wsss("accept", RUN, "--because", REASON)
    again.accepts()
    assert "nothing to accept" in again.said


def test_the_rows_that_rest_on_accepted_code_are_marked(finished: Run) -> None:
    change(finished.path("walk.json"), code=OLD)
    wsss("accept", RUN, "walk", "--because", REASON).accepts()
    wsss("table", "--method", "cam", "--output", "chosen").accepts()
    rows = [line for line in Path("chosen/table.md").read_text().splitlines() if "%" not in line]
    marked = {"random walk", "pseudo label", "segmentation"}
    for stage in (*marked, "seed"):
        (row,) = [line for line in rows if f"| {stage} " in line]
        assert ("‡" in row) is (stage in marked)
    for name in ("table.md", "summary.md", "table.html"):
        assert f"‡ Of earlier code, accepted because: {REASON}." in Path("chosen", name).read_text()
    assert r"$^\ddagger$ Of earlier code" in Path("chosen/table.tex").read_text()
    assert REASON in Path("chosen/table.csv").read_text()
    wsss("table", "--from", "chosen/table.csv").accepts()


def test_other_differences_are_refused_with_their_line(finished: Run) -> None:
    change(finished.path("walk.json"), code=OLD, seed=3)
    said = wsss("accept", RUN, "--because", REASON)
    said.refuses("More than the code differs")
    said.refuses("walk: seed was 3, is 0")
    assert "accepted" not in read_json(finished.path("walk.json"))
    Path("params.yaml").write_text("walk: {beta: 3}\n")
    wsss("accept", RUN, "walk", "--because", REASON).refuses("walk.beta was 8.0, is 3.0")
    wsss("accept", RUN, "cam", "--because", REASON).accepts()


def test_a_dataset_can_be_accepted_and_a_missing_manifest_cannot(finished: Run) -> None:
    path = Path("work/shapes/data.json")
    change(path, code=OLD)
    wsss("accept", RUN, "data", "--because", REASON).accepts()
    assert read_json(path)["accepted"][0]["was"] == OLD
    Path("work/shapes/files.json").unlink()
    change(path, code=OLD, accepted=[])
    wsss("accept", RUN, "data", "--because", REASON).refuses("files.json")


def test_a_second_change_leads_back_to_the_code_that_snakemake_noted(finished: Run) -> None:
    path = finished.path("walk.json")
    first = {"was": OLD, "now": "b" * 16, "because": "moved", "date": "2026-01-01", "commit": None}
    change(path, code=OLD, accepted=[first])
    wsss("accept", RUN, "walk", "--because", REASON).accepts()
    assert [item["because"] for item in read_json(path)["accepted"]] == ["moved", REASON]
    assert noted_code(path, finished.code("walk")) == OLD


def test_a_reason_and_a_stage_that_is_there_are_needed(finished: Run) -> None:
    wsss("accept", RUN).refuses("--because is empty")
    wsss("accept", RUN, "wlak", "--because", REASON).refuses("no finished stage wlak")


def test_the_provenance_has_once_per_run_what_it_ran_on(finished: Run) -> None:
    change(finished.path("walk.json"), code=OLD, origin=None)
    wsss("accept", RUN, "walk", "--because", REASON).accepts()
    content = json.loads(json.dumps(provenance([finished])))
    most, other = content["made_with"][RUN]
    assert other["stages"] == ["walk"]
    assert other["commit"] is None
    assert "cam" in most["stages"]
    assert set(most) == {"stages", "commit", "dirty", "lock", "cuda", "driver", "versions"}
    assert {"python", "torch", "scipy", "pillow"} <= set(most["versions"])
    assert content["runs"][RUN]["walk"]["accepted"][0]["because"] == REASON


def test_where_code_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def present() -> tuple[str | None, bool | None]:
        origins.commit.cache_clear()
        return origins.commit()

    def git(*arguments: str) -> str:
        names = ("-c", "user.name=test", "-c", "user.email=test@localhost")
        command = ["git", "-C", str(tmp_path), *names, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.setattr(origins, "CHECKOUT", tmp_path)
    assert present() == (None, None)
    (tmp_path / "wsss").mkdir()
    (tmp_path / "wsss/a.py").write_text("")
    (tmp_path / "uv.lock").write_text("")
    git("init", "--quiet")
    assert present() == (None, True)
    git("add", "--all")
    git("commit", "--quiet", "--message", "code")
    assert present() == (git("rev-parse", "HEAD"), False)
    (tmp_path / "results.csv").write_text("")
    assert present()[1] is False
    (tmp_path / "wsss/b.py").write_text("")
    assert present()[1] is True
    origins.commit.cache_clear()


def test_the_lock_of_the_packages_is_known() -> None:
    assert len(origins.origin().lock or "") == 64
