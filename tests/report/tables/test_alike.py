"""What one table holds: rows that were made and scored alike, each with its protocol."""

import csv
import io
import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from answer import wsss
from made_run import make_dataset, make_run

from wsss.data.index import Index
from wsss.report.tables import long, selection, summary
from wsss.report.tables.rows import Row, collect, compared, differing_software, table_rows
from wsss.runs.run import planned_runs
from wsss.settings import Params
from wsss.settings.base import merge
from wsss.settings.resolve import validate_params
from wsss.storage.files import read_json, write_json

CHOSEN: dict[str, Any] = {
    "datasets": ["shapes"],
    "methods": ["cam", "mctformer", "supervised"],
    "calibration": "none",
    "evaluation": {"thresholds": 10, "seed_threshold": 0.3},
}
NEW_FIELDS = {
    "protocol": ("scales", "mirror", "threshold_choice", "calibration_images", "unscored", "data"),
    "described": ("extra", "pretraining", "parameters", "images_seen", "settings", "made_with"),
}


def params(**changed: Any) -> Params:
    return validate_params(merge(CHOSEN, changed))


def make(folder: Path, squares: Index, seed: int, **changed: Any) -> None:
    """Write one seed of the methods below `folder`/work."""
    folder.mkdir(exist_ok=True)
    with chdir(folder):
        chosen = params(seeds=[seed], **changed)
        index = make_dataset(squares, "shapes", chosen, ("red", "green", "blue"))
        for run in planned_runs(chosen):
            make_run(run, index)


@pytest.fixture(scope="module")
def both_seeds(squares: Index, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with seed 0 in `first` and seed 1 in `second`; tests copy it."""
    folder = tmp_path_factory.mktemp("seeds")
    for seed, name in enumerate(("first", "second")):
        make(folder / name, squares, seed)
    return folder


@pytest.fixture
def seeds(both_seeds: Path, work: Path) -> Path:
    shutil.copytree(both_seeds, work, dirs_exist_ok=True)
    return work


def file(folder: str, seed: int, method: str = "cam", what: str = "seed") -> Path:
    return Path(folder, f"work/shapes/{method}/common/s{seed}/eval/{what}.json")


def change(paths: list[Path], edit: Callable[[dict[str, Any]], object]) -> None:
    """Change the content of evaluation files."""
    for path in paths:
        content = read_json(path)
        edit(content)
        write_json(path, content)


def rows(*folders: str) -> list[Row]:
    """Return the rows of evaluation files below folders, through the command line."""
    sources = [text for folder in folders for text in ("--from", folder)]
    wsss("table", *sources, "--output", "out").accepts()
    return selection.read_table(Path("out/table.csv"))


def printed(*folders: str) -> str:
    """Return the table of evaluation files below folders as the command prints it."""
    answer = wsss("table", *(text for folder in folders for text in ("--from", folder)))
    answer.accepts()
    return answer.out


def read(*folders: str) -> list[Row]:
    """Return the rows of evaluation files below folders."""
    scores, _ = selection.evaluations([Path(folder) for folder in folders])
    return table_rows(scores)


def test_seeds_of_two_learning_rates_have_no_mean(squares: Index, work: Path) -> None:
    for seed, (name, lr) in enumerate((("first", 0.01), ("second", 0.004))):
        changed = {"methods": ["cam"], "classifier": {"train": {"lr": lr}}}
        make(work / name, squares, seed, **changed)
    answer = wsss("table", "--from", "first", "--from", "second")
    answer.refuses("classifier.train.lr is 0.01 and 0.004")
    for path in (file("first", 0), file("second", 1)):
        assert str(path) in answer.err


@pytest.mark.slow
def test_folders_and_batches_of_inference_are_no_other_settings(squares: Index, work: Path) -> None:
    for seed, name in enumerate(("first", "second")):
        segmenter = {"initial_file": f"/home/{name}/own.pth", "test": {"batch": 2 + seed}}
        changed = {"methods": ["cam"], "segmenter": segmenter, "cam": {"batch": 3 + seed}}
        make(work / name, squares, seed, **changed)
    assert {row.seeds for row in rows("first", "second")} == {2}


def test_seeds_made_alike_have_a_mean_and_the_digest_of_their_settings(seeds: Path) -> None:
    table = rows("first", "second")
    assert {row.seeds for row in table} == {2}
    assert all(len(row.settings) == 12 for row in table)
    assert len({row.settings for row in table}) == len(table)  # each stage has its own


def test_rows_scored_on_other_masks_are_refused(seeds: Path) -> None:
    paths = [file("first", 0, "mctformer"), file("second", 1, "mctformer")]
    change(paths, lambda content: content["protocol"].update(data="0123456789ab"))
    answer = wsss("table", "--from", "first", "--from", "second")
    answer.refuses("were scored on different images or masks of shapes, train")


@pytest.mark.slow
def test_files_without_the_new_fields_are_read(seeds: Path) -> None:
    def strip(content: dict[str, Any]) -> None:
        for part, names in NEW_FIELDS.items():
            for name in names:
                content[part].pop(name, None)

    change(sorted(Path("first").glob("work/**/eval/*.json")), strip)
    assert {row.seeds for row in rows("first", "second")} == {2}
    assert {row.extra for row in rows("first")} == {""}
    assert {row.settings for row in rows("first")} == {""}


def test_the_line_divides_the_tables(seeds: Path) -> None:
    wsss("table", "--from", "first", "--output", "out").accepts()
    for name in ("table.md", "summary.md", "table.tex", "summary.tex", "table.html"):
        text = Path("out", name).read_text()
        place = text.index("learned from more than image labels")
        assert text.index("MCTformer") < place < text.index("true masks (upper bound)"), name
        assert "extra knowledge" in text.lower(), name
    with Path("out/table.csv").open() as lines:
        assert [line["extra"] for line in csv.DictReader(lines)][-1] == "true masks"


def test_rows_of_other_versions_are_marked(seeds: Path) -> None:
    path = file("first", 0, "mctformer")
    change([path], lambda content: content["described"]["made_with"].update(torch=["0.4.1"]))
    table = read("first")
    head, *lines = cells(printed("first"))
    column = [line[head.index("torch")] for line in lines if line[1]]
    assert column.count("0.4.1") == 1
    assert "timm" not in head
    (one,) = summary.summaries(table)
    assert [line[0] for line in one.lines if line[0].endswith("†")] == ["MCTformer†"]
    assert "0.4.1" in one.note
    values = differing_software(table)["shapes"]
    assert values["torch"]["0.4.1"] == ["mctformer/common/seed"]
    assert list(values) == ["torch"]


def test_versions_that_all_rows_share_are_said_once(seeds: Path) -> None:
    text = printed("first")
    assert text.count("torch") == 1
    assert "made with: torch" in text


def test_thresholds_chosen_on_masks_are_said_and_may_differ_between_seeds(seeds: Path) -> None:
    for seed, folder in enumerate(("first", "second")):
        calibrated = {"threshold_choice": "calibrated", "calibration_images": 100}
        calibrated |= {"threshold": 0.3 + seed / 10}
        change([file(folder, seed)], lambda content: content["protocol"].update(calibrated))  # noqa: B023
    table = read("first", "second")
    row = next(row for row in table if (row.method, row.stage) == ("cam", "seed"))
    assert row.threshold == (0.3, 0.4)
    head, *lines = cells(printed("first", "second"))
    line = next(line for line in lines if line[0] == "CAM" and "seed" in line)
    assert line[head.index("thresholds")] == "100 masks"
    assert line[head.index("threshold")] == "0.3 to 0.4"


def test_everything_that_changes_a_number_is_in_the_table(seeds: Path) -> None:
    changed = {"erode_px": 7, "unscored": 2, "scales": [0.5, 1.0], "mirror": True}
    changed |= {"unlabelled": "missed"}

    def edit(content: dict[str, Any]) -> None:
        content["protocol"].update(changed)
        content["coverage"] = 0.9

    change([file("first", 0)], edit)
    head, *lines = cells(printed("first"))
    line = dict(zip(head, next(cells for cells in lines if cells[0] == "CAM"), strict=True))
    assert line["eroded by px"] == "7"
    assert line["split (images)"] == "train (24, 2 without a mask)"
    assert line["scales at test"] == "0.5 1, mirrored"
    assert line["labelled pixels %"] == "90.0 (rest: missed)"


def test_one_run_has_a_gain_and_no_interval(seeds: Path) -> None:
    with chdir("first"):
        scores = collect(planned_runs(params(seeds=[0])))
        row = next(r for r in compared(table_rows(scores), scores) if r.method == "mctformer")
    assert (row.gain_low, row.gain_high) == (None, None)
    assert row.gain is not None
    assert row.gain_by_seed == (pytest.approx(row.gain, abs=2e-6),)
    text = long.to_markdown([row])
    assert f"{100 * row.gain:+.1f} (one run)" in text
    assert "bootstrap over seeds and images" in text
    line = next(csv.DictReader(io.StringIO(long.to_csv([row]))))
    assert float(line["gain_by_seed"]) == row.gain_by_seed[0]


def cells(text: str) -> list[list[str]]:
    """Return the lines of the first Markdown table in a text, without its rule."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    table_cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [table_cells[0], *table_cells[2:]]
