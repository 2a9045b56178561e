"""`wsss table`: a chosen part, evaluation files alone, and the compact tables."""

import csv
import json
import shutil
import subprocess
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pytest
from made_run import make_dataset, make_run
from typer.testing import CliRunner, Result

from wsss.cli import app
from wsss.data.index import Index
from wsss.errors import WsssError
from wsss.report.tables import long, selection, summary
from wsss.report.tables.rows import Row, collect, table_rows
from wsss.runs.run import planned_runs
from wsss.settings import Params
from wsss.settings.base import merge
from wsss.settings.resolve import read_yaml, validate_params
from wsss.stages.table import write_results as write_results
from wsss.storage.files import read_json, write_json

ROOT = Path(__file__).parents[2]
CHANGES = {
    "methods": ["cam", "toco", "supervised"],
    "seeds": [0],
    "results": "results",
    "evaluation": {"thresholds": 10},
    "report": {"panels": 1},
}
CHOSEN = merge(read_yaml(ROOT / "params/embedded.yaml"), CHANGES)  # at toy size
FIGURES = {
    f"{name}.{kind}"
    for name in ("curves", "classes", "parts", "contexts", "sizes")
    for kind in ("svg", "pdf")
}


def params() -> Params:
    return validate_params(CHOSEN)


@pytest.fixture(scope="module")
def made(squares: Index, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with runs, their table, and the parameter file; tests may read it alone."""
    folder = tmp_path_factory.mktemp("made")
    with chdir(folder):
        index = make_dataset(squares, "shapes", params(), ("red", "green", "blue"))
        for run in planned_runs(params()):
            make_run(run, index)
        write_json(Path("params.yaml"), CHOSEN)
        write_results(params())
    return folder


@pytest.fixture
def elsewhere(work: Path) -> Path:
    """Run a test in a folder without work/, results/ and parameters."""
    return work


def table(*arguments: object) -> Result:
    """Return what `wsss table` said and how it ended."""
    return CliRunner().invoke(app, ["table", *map(str, arguments)])


def cells(text: str) -> list[list[str]]:
    """Return the lines of the first Markdown table in a text, without its rule."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [found[0], *found[2:]]


def test_results_of_other_settings_leave_the_tables_alone(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "copy")
    with chdir(tmp_path / "copy"):
        before = {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()}
        Path("mine.yaml").write_text("methods: [cam]\nresults: results/mine\n")
        done = table("--params", "params.yaml", "--params", "mine.yaml")
        assert Path("results/mine/table.md").read_text() in done.output
        assert Path("results/mine/figures/curves.svg").is_file()
        assert {row.method for row in selection.read_table(Path("results/mine/table.csv"))} == {
            "cam"
        }
        assert {path: path.read_bytes() for path in before} == before


def test_a_variant_has_rows_of_its_own_beside_its_base(squares: Index, work: Path) -> None:
    variants = {"cam-beta": {"method": "cam", "grid": {"walk.beta": [4.0]}}}
    changes = {"methods": ["cam"], "protocols": ["common"], "variants": variants}
    chosen = validate_params({**CHOSEN, **changes})
    index = make_dataset(squares, "shapes", chosen, ("red", "green", "blue"))
    for run in planned_runs(chosen):
        make_run(run, index)
    text = write_results(chosen)
    rows = selection.read_table(Path("results/table.csv"))
    assert [row.title for row in rows if row.stage == "seed"] == ["CAM", "CAM: cam-beta-4.0"]
    assert "CAM: cam-beta-4.0" in text
    assert Path("results/figures/panels-shapes-cam-beta-4.0-common-s0.png").is_file()
    assert Path("work/shapes/cam-beta-4.0/common/s0/walk.json").is_file()
    again = table("--from", "work/shapes/cam-beta-4.0", "--stage", "seed").output
    assert "CAM: cam-beta-4.0" in again


def test_a_chosen_part_is_printed_and_nothing_is_written(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()}
    chosen = ("--protocol", "common", "--stage", "seed", "--stage", "segmentation")
    done = table("--method", "cam", "--method", "toco", *chosen)
    assert done.exit_code == 0, done.output
    head, *lines = cells(done.stdout)
    names = [(line[head.index("method")], line[head.index("stage")]) for line in lines]
    methods = ("CAM", "ToCo")
    assert names == [(m, s) for m in methods for s in ("seed", "segmentation")]
    rows = selection.read_table(Path("results/table.csv"))
    full = {(row.title, row.stage): row for row in rows if row.protocol == "common"}
    for line in lines:
        stage = line[head.index("stage")]
        row = full[line[head.index("method")], stage]
        assert line[head.index("mIoU %")] == long.percent(row.miou)
    assert {p: p.stat().st_mtime_ns for p in made.rglob("*") if p.is_file()} == before


def test_a_chosen_part_is_written_where_asked(
    made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(made)
    done = table("--method", "supervised", "--output", tmp_path / "mine")
    assert done.exit_code == 0, done.output
    written = {path.name for path in (tmp_path / "mine").iterdir() if path.is_file()}
    kinds = {"table.csv", "table.md", "table.tex", "table.html", "summary.md", "summary.tex"}
    assert kinds < written
    assert {path.name for path in (tmp_path / "mine" / "figures").iterdir()} == FIGURES
    assert "CAM" not in (tmp_path / "mine" / "table.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (("--method", "irn"), "--method irn: there is none. There are: cam, supervised, toco."),
        (("--stage", "walks"), "--stage walks: there is none. There are: decode, pseudo,"),
        (("--method", "supervised", "--stage", "seed"), "No run has all the chosen names together"),
    ],
)
def test_a_part_that_is_not_there_is_an_error(
    made: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], phrase: str
) -> None:
    monkeypatch.chdir(made)
    error = table(*arguments).exception
    assert isinstance(error, WsssError)
    assert phrase in str(error)


def test_evaluation_files_alone_give_the_same_table(made: Path, elsewhere: Path) -> None:
    for source in sorted(made.glob("work/**/eval/*.json")):
        target = Path("theirs") / source.relative_to(made / "work")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    done = table("--from", "theirs", "--output", "again")
    assert done.exit_code == 0, done.output
    ours, theirs = (
        {(row.method, row.protocol, row.stage): replace(row, gain=None, gain_low=None, gain_high=None, gain_by_seed=None) for row in rows}
        for rows in map(selection.read_table, (made / "results/table.csv", Path("again/table.csv")))
    )  # fmt: skip
    assert theirs == ours
    for name in ("classes.csv", "curves.csv", "phenomena.csv"):
        same = sorted((made / "results" / name).read_text().splitlines())
        assert sorted(Path("again", name).read_text().splitlines()) == same
    stages = [row.stage for row in selection.read_table(Path("again/table.csv"))]
    assert stages[:4] == ["seed", "walk", "pseudo", "segmentation"]
    one = table("--from", "theirs/shapes/cam/common/s0/eval/seed.json")
    assert [line[0] for line in cells(one.stdout)[1:]] == ["shapes"]


def test_evaluations_of_a_method_that_is_not_known_here_are_shown(
    made: Path, elsewhere: Path
) -> None:
    record = read_json(made / "work/shapes/cam/common/s0/eval/seed.json")
    record["run"] = "birds/theirs/common/s7"
    record["described"]["title"] = "Their method"
    write_json(Path("seed.json"), record)
    done = table("--from", "seed.json")
    assert done.exit_code == 0, done.output
    assert cells(done.stdout)[1][:2] == ["birds", "Their method"]


def test_the_long_table_can_be_read_again(made: Path, elsewhere: Path) -> None:
    shutil.copytree(made / "results", "results")
    done = table("--from", "results/table.csv", "--output", "again")
    assert done.exit_code == 0, done.output
    for name in ("table.csv", "table.md", "table.tex", "summary.md", "metrics.json"):
        assert Path("again", name).read_text() == Path("results", name).read_text(), name


def test_values_of_every_kind_survive_the_csv(made: Path, elsewhere: Path) -> None:
    row = selection.read_table(made / "results/table.csv")[0]
    odd = replace(
        row, title="=1+1", source="'quoted', \"twice\"", best_thresholds=(0.1, 0.3), sd=0.01
    )
    Path("table.csv").write_text(long.to_csv([odd]))
    assert selection.read_table(Path("table.csv")) == [odd]


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        ("", "is not valid JSON"),
        ('{"shapes": {"cam": {}}}', "is not an evaluation of masks: it has no '"),
        ("[1, 2]", "is not an evaluation of masks: it holds [1, 2] ("),
    ],
)
def test_what_is_no_evaluation_is_named(elsewhere: Path, content: str, phrase: str) -> None:
    Path("x.json").write_text(content)
    error = table("--from", "x.json").exception
    assert isinstance(error, WsssError)
    assert "x.json" in str(error)
    assert phrase in str(error)


@pytest.mark.parametrize(
    ("keys", "value", "phrase"),
    [
        (("run",), None, "it has no 'run'"),
        (("what",), None, "it has no 'what'"),
        (("protocol", "crf"), None, "it has no 'protocol.crf'"),
        (("described", "title"), None, "it has no 'described.title'"),
        (("miou",), "high", "'miou' is 'high' (Input should be a valid number"),
        (("miou",), float("nan"), "'miou' is nan (Input should be a finite number"),
        (("classes", 1, "iou"), [0.5], "'classes.1.iou' is [0.5] (Input should be a valid number"),
    ],
)
def test_an_evaluation_that_does_not_fit_is_refused_with_its_key(
    made: Path, elsewhere: Path, keys: tuple[str | int, ...], value: object, phrase: str
) -> None:
    record = read_json(made / "work/shapes/cam/common/s0/eval/seed.json")
    part = record
    for key in keys[:-1]:
        part = part[key]
    if value is None:
        del part[keys[-1]]
    else:
        part[keys[-1]] = value
    write_json(Path("seed.json"), record)
    error = table("--from", "seed.json").exception
    assert isinstance(error, WsssError)
    assert str(error).startswith(f"seed.json is not an evaluation of masks: {phrase}")
    assert "\n" not in str(error)


def test_an_evaluation_of_boxes_that_does_not_fit_is_refused(elsewhere: Path) -> None:
    write_json(Path("boxes.json"), {"run": "cub/crt_localization/common/s0", "what": "boxes"})
    error = table("--from", "boxes.json").exception
    assert isinstance(error, WsssError)
    assert str(error).startswith("boxes.json is not an evaluation of boxes: it has no 'protocol'")


def test_one_evaluation_is_not_counted_as_two_seeds(made: Path, elsewhere: Path) -> None:
    source = made / "work/shapes/cam/common/s0/eval/seed.json"
    shutil.copy(source, "copy.json")
    error = table("--from", source, "--from", "copy.json").exception
    assert isinstance(error, WsssError)
    assert "are both seed of shapes/cam/common/s0" in str(error)


def test_a_folder_without_evaluations_and_a_foreign_csv_are_errors(elsewhere: Path) -> None:
    Path("empty").mkdir()
    Path("other.csv").write_text("a,b\n1,2\n")
    for name, phrase in (("empty", "has no eval/*.json"), ("other.csv", "is not a table.csv")):
        error = table("--from", name).exception
        assert isinstance(error, WsssError)
        assert phrase in str(error)


def test_the_summary_has_a_line_for_each_method_and_both_protocols(made: Path) -> None:
    head, *lines = cells((made / "results/summary.md").read_text())
    line = "↓ learned from more than image labels"
    assert [cells[0] for cells in lines] == ["CAM", "ToCo", line, "true masks (upper bound)"]
    assert head[1:3] == ["extra knowledge", "common: seed"]
    assert [cells[1] for cells in lines] == ["none", "none", "", "true masks"]
    assert "published: segmentation" in head
    row = next(
        row
        for row in selection.read_table(made / "results/table.csv")
        if (row.method, row.protocol, row.stage) == ("toco", "published", "decode")
    )
    assert lines[1][head.index("published: own decoder")] == long.percent(row.miou)
    assert lines[3][head.index("common: seed")] == ""


@pytest.fixture
def papers(made: Path) -> list[Row]:
    """Return rows of which one has a paper's number."""
    rows = selection.read_table(made / "results/table.csv")
    place = next(k for k, row in enumerate(rows) if row.protocol == "published")
    rows[place] = replace(rows[place], published=0.5, source="A paper; its Table 2", miou=0.45)
    return rows


def test_a_paper_s_number_stands_beside_ours_with_its_source(papers: list[Row]) -> None:
    (one,) = summary.summaries(papers)
    head, *lines = cells(summary.to_markdown([one]))
    first = head.index("published: seed")
    assert head[first + 1 : first + 3] == ["published: paper", "published: difference"]
    assert lines[0][first : first + 3] == ["45.0", "50.0", "-5.0"]
    assert lines[1][first + 1 : first + 3] == ["", ""]
    assert "Published by CAM: A paper; its Table 2." in one.note
    assert sum(count for _, count in one.groups) == len(one.heads) - 1


def test_the_summary_says_under_which_protocol_other_images_are_scored(made: Path) -> None:
    rows = selection.read_table(made / "results/table.csv")
    (one,) = summary.summaries(rows)
    assert (
        "seed, random walk, pseudo label under common: train, 18 images, labels known" in one.note
    )
    assert "seed, random walk, pseudo label under published: train, 24 images, " in one.note
    assert "own decoder, segmentation: val, 6 images, labels not known" in one.note
    (alike,) = summary.summaries([row for row in rows if row.protocol == "common"])
    assert "seed, random walk, pseudo label: train, 18 images" in alike.note


def test_classes_are_lines_and_methods_are_columns(made: Path) -> None:
    head, *lines = cells((made / "results/classes.md").read_text().split("###")[1])
    assert head == ["class", "CAM", "ToCo", "true masks (upper bound)"]
    assert [line[0] for line in lines] == ["background", "red", "green", "blue", "mean (mIoU)"]
    wanted = {"method": "toco", "protocol": "common", "stage": "segmentation", "class": "green"}
    with (made / "results/classes.csv").open() as file:
        found = [row for row in csv.DictReader(file) if wanted.items() <= row.items()]
    assert lines[2][2] == long.percent(float(found[0]["iou"]))


def test_the_page_begins_with_the_summary_and_ends_with_the_classes(made: Path) -> None:
    text = (made / "results/table.html").read_text()
    heads = ('colspan="', "<h3>Every number", "<h3>The networks behind", "By class: shapes")
    places = [text.index(each) for each in heads]
    assert places == sorted(places)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_takes_every_table_as_it_is(made: Path, papers: list[Row], tmp_path: Path) -> None:
    harmful = [replace(papers[0], title="50 % & $x_1$ \\input{x} ~^#{}|<\"'", sd=0.1), *papers]
    tex = summary.to_latex(summary.summaries(harmful)) + long.to_latex(harmful)
    tex += (made / "results/classes.tex").read_text()
    document = (
        r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
        f"{tex}\\end{{document}}"
    )
    (tmp_path / "t.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert tex.count(r"\begin{tabular}") == 1 + 1 + 2


def test_a_table_is_as_wide_in_latex_as_its_heads_say(papers: list[Row]) -> None:
    tex = summary.to_latex(summary.summaries(papers))
    body = tex[tex.index(r"\toprule") : tex.index(r"\bottomrule")].splitlines()
    spans = [line for line in body if "multicolumn" in line][0]
    widths = [int(part.split("}")[0]) for part in spans.split(r"\multicolumn{")[1:]]
    rows = [line for line in body if line.endswith(r"\\") and "multicolumn" not in line]
    counts = {line.count(" & ") + 1 for line in rows}
    assert counts == {sum(widths)}


def test_metrics_of_a_part_are_those_of_the_whole(
    made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(made)
    table("--stage", "segmentation", "--output", tmp_path)
    whole, part = (
        json.loads((f / "metrics.json").read_text()) for f in (made / "results", tmp_path)
    )
    stages = part["shapes"]["cam"]["common"]
    assert stages == {"segmentation": whole["shapes"]["cam"]["common"]["segmentation"]}


def test_rows_come_from_what_evaluations_say_of_their_runs(made: Path) -> None:
    with chdir(made):
        row = table_rows(collect(planned_runs(params())))[0]
    assert (row.supervision, row.networks) == ("image labels", "toy, random")
