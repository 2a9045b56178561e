"""The guard, the rows and the tables: what may be printed, and that it is printed safely."""

import csv
import io
import json
import re
import shutil
import statistics
import subprocess
import sys
import xml.etree.ElementTree as ET
from contextlib import chdir
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_run import make_dataset, make_run

from wsss.data.index import Index, load_index
from wsss.errors import ConfigError, MissingError, StaleError
from wsss.report.figures import charts
from wsss.report.figures.loss_curves import thin
from wsss.report.tables import html, long, published
from wsss.report.tables.rows import (
    Row,
    Score,
    collect,
    compared,
    metrics,
    read,
    table_rows,
)
from wsss.runs import describe
from wsss.runs.evaluation import ClassScores, Protocol
from wsss.runs.inputs import data_slice
from wsss.runs.record import Recorder
from wsss.runs.run import Run, planned_runs
from wsss.runs.staleness import changes, differences, stale, verify
from wsss.scores.bootstrap import read_images
from wsss.settings import Params
from wsss.settings.base import merge
from wsss.settings.resolve import validate_params
from wsss.stages.table import write_results as write_results
from wsss.storage.files import read_json, write_json

CHOSEN: dict[str, Any] = {
    "datasets": ["shapes"],
    "methods": ["cam", "supervised"],
    "seeds": [0, 1],
    "report": {"panels": 3},
    # Named here so that the tests do not depend on the defaults:
    "data": {"shapes": {"seed": 0}},
    "classifier": {"backbone": "toy", "weights": "none", "train": {"lr": 0.001}},
    "affinity": {"backbone": "toy", "weights": "none", "confident": {"foreground": 0.45}},
    "segmenter": {"backbone": "toy", "weights": "none", "test": {"mirror": True}},
    "cam": {"scales": [1.0, 0.5]},
    "pseudo": {"crf": "none"},
    "evaluation": {"seed_threshold": 0.3, "thresholds": 100, "convention": "A"},
}
EVIL = "=1+1<script>alert(1)</script> & 100% $x_1$ \\input{passwd} | {a} #~^\"'`"


def params(**changed: Any) -> Params:
    """Return the parameters of the made runs, with changes."""
    return validate_params(merge(CHOSEN, changed))


@pytest.fixture(scope="module")
def template(squares: Index, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all artifacts of two seeds of two methods."""
    folder = tmp_path_factory.mktemp("made")
    with chdir(folder):
        index = make_dataset(squares, "shapes", params(), ("red", EVIL, "blue"))
        for run in planned_runs(params()):
            make_run(run, index)
    return folder


@pytest.fixture
def made(template: Path, work: Path) -> Path:
    """Run a test in a copy of the made folder."""
    shutil.copytree(template, work, dirs_exist_ok=True)
    return work


@pytest.fixture(scope="module")
def all_written(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the results of everything made; tests may read it alone."""
    folder = tmp_path_factory.mktemp("written")
    shutil.copytree(template, folder, dirs_exist_ok=True)
    with chdir(folder):
        write_results(params())
    return folder


@pytest.fixture
def written(all_written: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run a test in the folder with the results."""
    monkeypatch.chdir(all_written)
    return all_written


def run_of(chosen: Params, name: str = "shapes/cam/common/s0") -> Run:
    """Return one of the made runs."""
    return Run.parse(name, chosen)


def edit(path: Path, **changed: Any) -> None:
    """Change entries of a JSON file."""
    write_json(path, {**read_json(path), **changed})


def test_what_the_present_configuration_made_passes_the_guard(made: Path) -> None:
    verify(*planned_runs(params()))
    assert [difference for run in planned_runs(params()) for difference in differences(run)] == []


@pytest.mark.parametrize(
    ("changed", "phrase"),
    [
        ({"cam": {"scales": [1.0]}}, "s0 cam: cam.scales was [1.0, 0.5], is [1.0]"),
        (
            {"classifier": {"train": {"lr": 0.5}}},
            "s0 classifier: classifier.train.lr was 0.001, is 0.5",
        ),
        (
            {"affinity": {"confident": {"foreground": 0.4}}},
            "s0 confident: affinity.confident.foreground was 0.45, is 0.4",
        ),
        ({"segmenter": {"test": {"mirror": False}}}, "segmenter.test.mirror was True, is False"),
        ({"evaluation": {"seed_threshold": 0.2}}, "s0 eval/seed: threshold was 0.3, is 0.2"),
        ({"data": {"shapes": {"seed": 3}}}, "shapes data: data.shapes.seed was 0, is 3"),
    ],
)
def test_a_changed_parameter_is_refused_by_its_key(
    made: Path, changed: dict[str, Any], phrase: str
) -> None:
    with pytest.raises(StaleError) as error:
        write_results(params(**changed))
    assert phrase in str(error.value)
    assert "Run `snakemake` again" in str(error.value)
    assert "\n" not in str(error.value)
    assert not Path("results").exists()


def test_records_that_have_to_be_made_again_are_those_that_differ(made: Path) -> None:
    run = run_of(params())
    assert stale(run) == set()
    edit(run.path("walk.json"), code="0123456789abcdef")
    run.path("cam.json").unlink()
    assert stale(run) == {run.path("walk.json")}
    run.path("pseudo.json").write_text("[]")
    assert stale(run) == {run.path("pseudo.json")}
    Path("work/shapes/data.json").unlink()
    run.path("pseudo.json").unlink()
    assert stale(run) == set()  # the whole run is made again


def test_settings_that_cannot_change_a_result_are_not_stale(made: Path) -> None:
    changed = run_of(params(shards=3, classifier={"train": {"workers": 2}}))
    assert list(differences(changed)) == []


def test_results_of_other_code_are_refused(made: Path) -> None:
    run = run_of(params())
    edit(run.path("walk.json"), code="0123456789abcdef")
    with pytest.raises(StaleError, match=r"s0 walk: code was 0123456789abcdef, is [0-9a-f]{16}"):
        verify(run)


def test_an_artifact_that_was_remade_after_it_was_read_is_refused(made: Path) -> None:
    run = run_of(params())
    target = run.path("cam.zip")
    shutil.copy(run_of(params(), "shapes/cam/common/s1").path("cam.zip"), target)
    recorder = Recorder("cam", run.slice("cam"), run.code("cam"), run.seed)
    recorder.write(run.path("cam.json"), [run.index], [target])
    with pytest.raises(StaleError) as error:
        verify(run)
    for stage in ("eval/seed", "confident", "walk"):
        assert f"{stage}: it read another {target} than {run} cam has written" in str(error.value)


def test_an_index_that_was_remade_is_refused(made: Path) -> None:
    edit(Path("work/shapes/data.json"), outputs={"work/shapes/index/train.json": "0" * 64})
    other = "read another work/shapes/index/train.json than shapes data"
    with pytest.raises(StaleError, match=other):
        verify(run_of(params()))


def test_an_evaluation_of_another_seed_is_refused(made: Path) -> None:
    run = run_of(params())
    shutil.copy(run_of(params(), "shapes/cam/common/s1").path("eval/seed.json"), run.path("eval"))
    with pytest.raises(StaleError, match="eval/seed: seed was 1, is 0"):
        verify(run)
    with pytest.raises(StaleError, match=r"is of shapes/cam/common/s1 seed"):
        collect(planned_runs(params()))


def test_an_evaluation_must_say_what_it_scored(made: Path) -> None:
    run = run_of(params())
    edit(run.path("eval/pseudo.json"), inputs={})
    with pytest.raises(StaleError, match=r"does not say which \S+ it read"):
        verify(run)


def test_a_record_that_does_not_fit_is_named(made: Path) -> None:
    run = run_of(params())
    edit(run.path("walk.json"), inputs=[1, 2])
    with pytest.raises(MissingError, match=r"walk\.json is not a record: 'inputs' is \[1, 2\] \("):
        verify(run)


def test_an_absent_record_is_named(made: Path) -> None:
    run_of(params()).path("affinity.json").unlink()
    with pytest.raises(MissingError, match=r"work/shapes/cam/common/s0/affinity\.json is missing"):
        verify(run_of(params()))


def test_initial_weights_belong_to_the_chain(made: Path) -> None:
    run = run_of(params(classifier={"backbone": "resnet18", "weights": "imagenet"}))
    with pytest.raises(MissingError, match=r"work/pretrained/resnet18\.imagenet\.json is missing"):
        verify(run)


def test_changes_name_keys_at_any_depth_and_on_either_side() -> None:
    was, now = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": 5}
    assert list(changes(was, now, "x")) == [
        ("x.a.c", 2, 4),
        ("x.d", 3, "absent"),
        ("x.e", "absent", 5),
    ]


def scored(
    values: list[float],
    name: str = "shapes/cam/common",
    chosen: Params | None = None,
    **protocol: Any,
) -> list[Score]:
    """Return evaluations of one seed each, read from files."""
    said = {
        "split": "train",
        "images": 9,
        "labels_used": True,
        "crf": "none",
        "convention": "A",
        "threshold": 0.3,
        **protocol,
    }
    scores = []
    for seed, value in enumerate(values):
        content = {
            "run": f"{name}/s{seed}",
            "what": "seed",
            "protocol": said,
            "miou": value,
            "best": {"threshold": 0.2 + seed / 10, "miou": value + 0.1},
            "coverage": 1.0,
            "classes": [],
            "curve": None,
            "described": describe.described(
                Run.parse(f"{name}/s{seed}", chosen or params()), "seed"
            ).model_dump(),
        }
        write_json(Path(f"{seed}.json"), content)
        scores.append(read(Path(f"{seed}.json"), chosen or params()))
    return scores


def test_several_seeds_give_their_mean_and_standard_deviation(work: Path) -> None:
    (row,) = table_rows(scored([0.5, 0.6, 0.7]))
    assert (row.miou, row.sd, row.seeds) == (0.6, 0.1, 3)
    assert (row.best_miou, row.best_thresholds) == (0.7, (0.2, 0.4))
    assert "60.0 ± 10.0" in long.to_markdown([row])
    assert "70.0 at 0.2 to 0.4" in long.to_markdown([row])


def test_one_seed_has_no_standard_deviation(work: Path) -> None:
    (row,) = table_rows(scored([0.5]))
    assert row.sd is None
    assert "±" not in long.to_markdown([row])
    assert "sd" not in metrics([row])["shapes"]["cam"]["common"]["seed"]


def test_rows_are_the_means_of_the_evaluation_files(made: Path) -> None:
    rows = table_rows(collect(planned_runs(params())))
    stages = [(row.method, row.stage) for row in rows]
    own = ["seed", "walk", "pseudo", "segmentation"]
    assert stages == [*(("cam", what) for what in own), ("supervised", "segmentation")]
    files = sorted(Path("work/shapes/cam/common").glob("s*/eval/walk.json"))
    values = [read_json(path)["miou"] for path in files]
    assert len(values) == 2
    assert rows[1].miou == pytest.approx(statistics.mean(values), abs=1e-6)  # six digits are kept
    assert rows[1].sd == pytest.approx(statistics.stdev(values), abs=1e-6)


@pytest.mark.parametrize(
    "key", [name for name, field in Protocol.model_fields.items() if field.is_required()]
)
def test_a_number_without_its_protocol_is_not_printed(made: Path, key: str) -> None:
    path = run_of(params()).path("eval/seed.json")
    protocol = read_json(path)["protocol"]
    del protocol[key]
    edit(path, protocol=protocol)
    with pytest.raises(MissingError, match=f"it has no 'protocol.{key}'"):
        collect(planned_runs(params()))


def test_seeds_measured_under_different_protocols_have_no_mean(work: Path) -> None:
    one, other = scored([0.5, 0.6])
    protocol = other.protocol.model_copy(update={"convention": "C"})
    evaluation = other.evaluation.model_copy(update={"protocol": protocol})
    other = replace(other, evaluation=evaluation)
    with pytest.raises(StaleError, match=r"0.json and 1.json .* protocol.convention is A and C"):
        table_rows([one, other])


@pytest.mark.parametrize(
    ("name", "split", "expected"),
    [
        ("voc12/cam/published", "train", 0.483),
        ("voc12/cam/published", "val", None),
        ("voc12/cam/common", "train", None),
        ("shapes/cam/published", "train", None),
    ],
)
def test_a_published_number_stands_beside_its_own_protocol_alone(
    work: Path, name: str, split: str, expected: float | None
) -> None:
    alike = params(classifier={"backbone": "resnet50"})  # as the paper under both protocols
    (row,) = table_rows(scored([0.45], name, alike, split=split))
    assert row.published == expected
    assert row.difference == (None if expected is None else pytest.approx(-0.033))
    assert ("48.3" in long.to_markdown([row])) == (expected is not None)
    assert ("irn#4" in long.to_markdown([row])) == (expected is not None)


def test_of_several_published_numbers_the_one_with_the_same_backbone_counts() -> None:
    def find(backbone: str) -> float | None:
        found = published.find("cam", "voc12", "seed", "train", backbone)
        return found.value.miou if found else None

    assert [find("resnet50"), find("resnet38"), find("toy")] == [48.3, 48.0, None]


def test_every_published_number_has_a_source() -> None:
    for paper in published.papers():
        assert paper.source
        assert paper.values or paper.localization


def test_the_table_says_what_a_stage_was_initialised_with(work: Path) -> None:
    run = run_of(params(segmenter={"backbone": "resnet50.tv_in1k", "weights": "imagenet"}))
    assert describe.networks(run, "seed") == "toy, random"
    assert describe.networks(run, "segmentation") == (
        "classifier + affinity: toy, random; segmenter: resnet50.tv_in1k, ImageNet-1k"
    )


@pytest.fixture
def hostile(work: Path) -> list[Row]:
    """Return two rows whose names would do harm."""
    (row,) = table_rows(scored([0.5]))
    return [
        replace(row, title=EVIL, networks=EVIL, source=EVIL, published=0.4),
        replace(row, title="-2+3", source="@cmd"),
    ]


def test_csv_cells_are_no_formulas(hostile: list[Row]) -> None:
    lines = list(csv.DictReader(io.StringIO(long.to_csv(hostile))))
    assert [line["title"] for line in lines] == [f"'{EVIL}", "'-2+3"]
    assert [line["source"] for line in lines] == [f"'{EVIL}", "'@cmd"]
    assert lines[0]["difference"] == "0.1"


class Tags(HTMLParser):
    """Collects the tags and the text of a page."""

    def __init__(self) -> None:
        """Start with none."""
        super().__init__()
        self.tags: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        """Keep a text."""
        self.text.append(data)


def test_html_shows_names_and_never_runs_them(hostile: list[Row]) -> None:
    parser = Tags()
    parser.feed(html.to_html(hostile))
    assert "script" not in parser.tags
    assert EVIL in parser.text


def test_the_html_page_needs_no_other_file(hostile: list[Row]) -> None:
    assert not re.search(r"(?:src|href)=|url\(|@import", html.to_html(hostile))


def test_latex_takes_no_command_from_a_name(hostile: list[Row]) -> None:
    text = long.to_latex(hostile)
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    columns = {len(re.findall(r"(?<!\\)&", line)) for line in lines}
    assert r"\input{" not in text
    assert len(columns) == 1
    assert not re.search(r"(?<!\\)[%#]", body)
    assert r"\textbackslash{}input\{passwd\}" in text


def test_markdown_rows_keep_their_columns(hostile: list[Row]) -> None:
    lines = [line for line in long.to_markdown(hostile).splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert "<script>" not in "".join(lines)


def test_what_all_rows_share_is_said_once(made: Path) -> None:
    text = long.to_markdown(table_rows(collect(planned_runs(params()))))
    assert text.count("common") == 1
    assert "classes averaged: A (classes in the truth or in the prediction)" in text
    for word in ("seed", "random walk", "pseudo label", "true masks (upper bound)", "train (18)"):
        assert word in text


def test_metrics_are_nested_by_dataset_method_protocol_and_stage(written: Path) -> None:
    found = read_json(Path("results/metrics.json"))
    walk = found["shapes"]["cam"]["common"]["walk"]
    assert set(walk) == {"miou", "sd", "best_miou", "seeds"}
    assert 0 < walk["miou"] < 1
    assert set(found["shapes"]["supervised"]["common"]) == {"segmentation"}


def read_csv(name: str) -> list[dict[str, str]]:
    """Return the lines of a table under results/."""
    return list(csv.DictReader(io.StringIO(Path("results", name).read_text(encoding="utf-8"))))


def test_the_accompanying_tables_are_complete(written: Path) -> None:
    assert len(read_csv("classes.csv")) == 4 * (4 + 1) * 2  # labels, evaluations, seeds
    assert f"'{EVIL}" in {line["class"] for line in read_csv("classes.csv")}
    assert read_csv("context.csv") == []  # no marks
    assert len(read_csv("curves.csv")) == 100 * 2 * 2  # thresholds, stages with maps, seeds
    assert {(line["run"], line["network"]) for line in read_csv("loss.csv")} == {
        *(
            (f"shapes/cam/common/s{seed}", network)
            for seed in (0, 1)
            for network in ("classifier", "affinity", "segmenter")
        ),
        *((f"shapes/supervised/common/s{seed}", "segmenter") for seed in (0, 1)),
    }


def test_provenance_names_what_made_every_artifact(written: Path) -> None:
    found = read_json(Path("results/provenance.json"))
    run = run_of(params())
    assert list(found["runs"][str(run)]) == run.stages()
    cam = found["runs"][str(run)]["cam"]
    assert cam["code"] == run.code("cam")
    assert cam["outputs"] == read_json(run.path("cam.json"))["outputs"]
    assert found["data"]["shapes"]["params"] == data_slice(params(), "shapes")


def test_equal_input_gives_equal_bytes(made: Path, all_written: Path) -> None:
    write_results(params())
    contents = []
    for folder in (Path(), all_written):
        files = sorted(path for path in (folder / "results").rglob("*") if path.is_file())
        contents.append({path.relative_to(folder).as_posix(): path.read_bytes() for path in files})
    first, second = contents
    assert first == second
    assert {path.suffix for path in map(Path, first)} == {
        *(".csv", ".md", ".tex", ".html", ".json", ".svg", ".pdf", ".png")
    }
    assert len([path for path in first if path.endswith(".png")]) == 2 + 4  # supervised: val alone


def test_every_figure_is_a_pdf_too_with_fonts_that_journals_take(written: Path) -> None:
    figures = Path("results/figures")
    names = {path.stem for path in figures.glob("*.svg")}
    assert {path.stem for path in figures.glob("*.pdf")} == names
    content = (figures / "curves.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    assert b"/Type3" not in content
    assert b"/CreationDate" not in content


def test_tables_for_a_paper_have_labels_and_classes_have_deviations(written: Path) -> None:
    labels = [
        name
        for file in ("table", "summary", "classes")
        for name in re.findall(r"\\label{(.*)}", Path(f"results/{file}.tex").read_text())
    ]
    assert labels == ["tab:wsss-table", "tab:wsss-summary-shapes", "tab:wsss-classes-shapes-common"]
    (line,) = [
        line
        for line in Path("results/classes.md").read_text().splitlines()
        if line.startswith("| mean (mIoU)")
    ]
    lines = {
        line["method"]: line for line in read_csv("table.csv") if line["stage"] == "segmentation"
    }
    for cell, method in zip(line.split("|")[2:4], ("cam", "supervised"), strict=True):
        values = (float(lines[method]["miou"]), float(lines[method]["sd"]))
        assert cell.strip() == "{:.1f} ± {:.1f}".format(*(100 * value for value in values))


def test_figures_are_well_formed_whatever_a_class_is_called(written: Path) -> None:
    for name in ("curves", "classes", "losses"):
        root = ET.parse(f"results/figures/{name}.svg").getroot()  # noqa: S314  # made just now
        assert root.tag.endswith("svg")
        assert not [each for each in root.iter() if each.tag.endswith("script")]


def test_a_class_in_a_rare_script_does_not_stop_a_figure(work: Path) -> None:
    score = scored([0.5])[0]
    classes = tuple(
        ClassScores(name=name, iou=iou, precision=None, recall=None)
        for name, iou in (("犬", 0.5), (r"$\frac$", None), ("\u202eevil", 0.1))
    )
    evaluation = score.evaluation.model_copy(update={"classes": classes})
    charts.classes([replace(score, evaluation=evaluation)], Path("classes.svg"))
    assert Path("classes.svg").stat().st_size > 1000


def test_without_maps_the_curves_figure_says_so(made: Path) -> None:
    write_results(params(methods=["supervised"]))
    assert Path("results/figures/curves.svg").is_file()
    assert read_csv("curves.csv") == []


def test_no_run_is_an_error_that_says_why(work: Path) -> None:
    with pytest.raises(ConfigError, match="No run is selected"):
        write_results(params(methods=["supervised"], protocols=["published"]))


def test_long_logs_are_thinned_to_means_that_keep_the_last_step() -> None:
    points = [(step, float(step % 7)) for step in range(1, 1001)]
    thinned = thin(points, 200)
    assert len(thinned) == 200
    assert thinned[-1][0] == 1000
    overall = statistics.fmean(loss for _, loss in points)
    assert statistics.fmean(loss for _, loss in thinned) == pytest.approx(overall, abs=1e-5)
    assert thin(points[:3], 200) == points[:3]


def test_a_damaged_log_is_named(made: Path) -> None:
    run_of(params()).path("affinity.csv").write_text("step,loss\n1,zero\n")
    with pytest.raises(MissingError, match=r"affinity\.csv is not a training log"):
        write_results(params())


def test_results_need_neither_torch_nor_plots_until_they_draw() -> None:
    code = "import sys, json, wsss.stages.table; print(json.dumps(sorted(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert not {"torch", "timm", "pandas", "matplotlib"} & set(json.loads(shown.stdout))


def test_a_gain_is_over_the_baseline_and_has_an_interval(squares: Index, work: Path) -> None:
    chosen = params(methods=["cam", "mctformer", "supervised"])
    index = make_dataset(squares, "shapes", chosen, ("red", "green", "blue"))
    for run in planned_runs(chosen):
        make_run(run, index)
    scores = collect(planned_runs(chosen))
    found = {(row.method, row.stage): row for row in compared(table_rows(scores), scores)}
    own, base = found["mctformer", "seed"], found["cam", "seed"]
    assert base.gain is None
    assert found["supervised", "segmentation"].gain is None, "it has seen masks"
    assert own.gain == pytest.approx(own.miou - base.miou, abs=2e-6)
    assert own.gain_low is not None
    assert own.gain_high is not None
    assert own.gain_low <= own.gain <= own.gain_high
    assert own.gain_by_seed is not None
    assert statistics.fmean(own.gain_by_seed) == pytest.approx(own.gain, abs=2e-6)
    text = long.to_markdown(list(found.values()))
    assert "gain over CAM" in text
    assert metrics([own])["shapes"]["mctformer"]["common"]["seed"]["gain"] == own.gain


def test_confusions_of_images_sum_to_that_of_the_evaluation(made: Path) -> None:
    run = run_of(params())
    for what in ("seed", "walk", "pseudo", "segmentation"):
        record = read_json(run.path(f"eval/{what}.json"))
        index = load_index(run.index)
        names = [entry.name for entry in index.split(record["protocol"]["split"])]
        images = read_images(run.path(f"eval/{what}.csv"), names, len(index.classes) + 1)
        whole = images.sum(0).reshape(len(index.classes) + 1, -1)
        assert whole[:, :-1].tolist() == record["confusion"]
        assert whole[:, -1].tolist() == (record["missed"] or [0] * len(whole))
