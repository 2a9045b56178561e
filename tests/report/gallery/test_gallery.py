"""The folder of a gallery: what it holds, what is left out, and what is refused in one line."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss.data.images import load_image
from wsss.data.index import load_index
from wsss.errors import MissingError, StaleError, WsssError
from wsss.report.gallery import pictures
from wsss.report.gallery.gallery import gallery, image_count
from wsss.report.gallery.page import as_json
from wsss.runs.run import Run
from wsss.scores.mistakes import KINDS
from wsss.settings.resolve import load_params
from wsss.storage.files import read_json, write_json

CAM, TOCO, MASKS = "shapes/cam/common/s0", "shapes/toco/common/s0", "shapes/supervised/common/s0"


def show(*runs: str, images: str = "24", output: str = "results/gallery") -> Path:
    """Write a gallery under the present params.yaml and return its folder."""
    params = load_params([Path("params.yaml")])
    folder = Path(output)
    gallery([Run.parse(run, params) for run in runs], image_count(images), folder)
    return folder


def wsss(*arguments: str, code: int = 0) -> str:
    """Run the command as a user does and return what it says."""
    command = [sys.executable, "-m", "wsss", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def content(folder: Path) -> dict[str, Any]:
    """Return the data of a page."""
    text = (folder / "index.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_a_gallery_is_a_page_with_pictures_and_a_table(made: Path) -> None:
    assert wsss("show", CAM, "--images", "2") == "4 images -> results/gallery/index.html\n"
    folder = made / "results/gallery"
    assert {path.name for path in folder.iterdir()} == {"index.html", "mistakes.csv", "pictures"}
    data = content(folder)
    named = {each["photo"] for each in data["images"]} | {each["truth"] for each in data["images"]}
    named |= {cell["src"] for each in data["images"] for cell in each["cells"][0].values()}
    assert named == {f"pictures/{path.name}" for path in (folder / "pictures").iterdir()}
    assert [sorted(each["cells"][0]) for each in data["images"]] == [
        *[["cam", "pseudo", "seed"]] * 2,
        *[["segmentation"]] * 2,
    ]


def test_the_columns_of_each_method_are_those_it_has(made: Path) -> None:
    show(CAM, TOCO, MASKS, CAM, images="1", output="out")
    data = content(made / "out")
    assert [run["columns"] for run in data["runs"]] == [
        ["cam", "seed", "pseudo", "segmentation"],
        ["cam", "seed", "pseudo", "decode", "segmentation"],
        ["segmentation"],
    ]
    assert [run["title"] for run in data["runs"]] == ["CAM", "ToCo", "true masks (upper bound)"]
    assert [run["notes"] for run in data["runs"]] == [[], [], []]


def test_the_table_of_mistakes_adds_up_to_what_is_wrong_in_the_evaluation(made: Path) -> None:
    show(CAM, TOCO, images="all")
    with (made / "results/gallery/mistakes.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 + 4
    for line in lines:
        folder = Path("work/shapes") / line["method"] / "common/s0/eval"
        record = read_json(folder / f"{line['stage']}.json")
        wrong = 1 - record["pixel_accuracy"]
        assert int(line["images"]) == record["protocol"]["images"]
        assert float(line["wrong"]) == pytest.approx(wrong, abs=2e-6)  # both are rounded
        assert sum(float(line[kind]) for kind in KINDS) == pytest.approx(wrong, abs=5e-6)


def test_the_iou_of_an_image_is_the_mean_over_the_classes_that_occur_in_it(made: Path) -> None:
    show(CAM, images="all")
    data = content(made / "results/gallery")
    index = load_index(Path("work/shapes/index.json"))
    image = next(each for each in data["images"] if each["split"] == "val")
    entry = next(entry for entry in index.images if entry.name == image["name"])
    cell = image["cells"][0]["segmentation"]
    found = np.asarray(Image.open(made / "results/gallery" / cell["src"]))
    truth = np.asarray(Image.open(entry.mask or ""))
    each = [
        ((found == k) & (truth == k)).sum() / ((found == k) | (truth == k)).sum()
        for k in np.union1d(found, truth)
    ]
    assert cell["iou"] == pytest.approx(np.mean(each), abs=1e-4)  # rounded to four digits
    assert cell["mistakes"][0] == truth.size
    assert sum(cell["mistakes"][1:]) == (found != truth).sum()


def test_pictures_are_as_large_as_shown_and_label_maps_have_classes_as_values(made: Path) -> None:
    params = load_params([Path("params.yaml")])
    run, index = Run.parse(CAM, params), load_index(Path("work/shapes/index.json"))
    image = load_image(index.images[1].path)
    large = np.repeat(np.repeat(image, 20, 0), 20, 1)
    photo = Image.open(io.BytesIO(pictures.photo(large, run.params.report.gallery_px)))
    assert (photo.format, max(photo.size)) == ("WEBP", 384)
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    drawn = Image.open(io.BytesIO(pictures.labels(labels, 384)))
    assert np.asarray(drawn).tolist() == labels.tolist()
    shown = np.asarray(drawn.convert("RGBA"))
    assert shown[..., 3].tolist() == [[0, 255], [255, 255]]  # the image is seen through background
    assert shown[1, 1].tolist() == [255, 255, 255, 255]


def test_a_cam_is_drawn_at_the_size_it_is_stored_in(made: Path) -> None:
    show(CAM, images="all")
    data = content(made / "results/gallery")
    for image in data["images"][:2]:
        cell = image["cells"][0]["cam"]
        with Image.open(made / "results/gallery" / cell["src"]) as grey:
            assert (grey.mode, grey.size) == ("L", (image["size"][1] // 4, image["size"][0] // 4))
        assert cell["covered"] == [1, 1]


def test_stages_that_are_not_made_are_left_out_with_a_note(made: Path) -> None:
    folder = made / "work" / CAM
    for name in ("pseudo.json", "eval/segmentation.json", "eval/pseudo.json", "segmenter.json"):
        (folder / name).unlink()
    show(CAM, images="2")
    data = content(made / "results/gallery")
    assert data["runs"][0]["columns"] == ["cam", "seed", "segmentation"]
    notes = " ".join(data["runs"][0]["notes"])
    assert f"No pseudo label of CAM: run snakemake --cores 1 work/{CAM}/pseudo.zip." in notes
    assert f"run snakemake --cores 1 work/{CAM}/eval/segmentation.json." in notes
    cells = [each["cells"][0]["segmentation"] for each in data["images"] if each["split"] == "val"]
    assert all("iou" not in cell and sum(cell["mistakes"]) for cell in cells)


def test_an_image_without_a_mask_has_neither_truth_nor_score(made: Path) -> None:
    path = made / "work/shapes/index.json"
    index = read_json(path)
    for image in index["images"]:
        image["mask"] = image["mask"] if image["split"] == "train" else None
    write_json(path, index)
    record = read_json(path.with_name("data.json"))
    record["outputs"] = {}
    write_json(path.with_name("data.json"), record)
    (made / "work" / CAM / "eval/segmentation.json").unlink()
    show(CAM, images="1")
    bare = content(made / "results/gallery")["images"][1]
    assert bare["truth"] is None
    assert set(bare["cells"][0]["segmentation"]) == {"src"}


def test_a_stale_stage_is_refused_as_the_table_refuses_it(made: Path) -> None:
    (made / "params.yaml").write_text("calibration: none\nevaluation: {seed_threshold: 0.2}\n")
    with pytest.raises(StaleError, match=r"out of date: .* eval/seed: threshold was 0.4, is 0.2"):
        show(CAM)
    assert not (made / "results").exists()


def test_the_settings_of_the_records_count_and_what_differs_is_said(made: Path) -> None:
    show(CAM, images="1")
    page = (made / "results/gallery/index.html").read_bytes()
    (made / "params.yaml").write_text("calibration: none\nevaluation: {seed_threshold: 0.2}\n")
    said = wsss("show", CAM, "--images", "1")
    assert f"{CAM} has the settings of its records: evaluation.seed_threshold 0.4 (not 0.2)" in said
    assert (made / "results/gallery/index.html").read_bytes() == page


def test_a_run_with_nothing_made_is_one_line_with_exit_code_two(made: Path) -> None:
    said = wsss("show", "shapes/cam/common/s7", code=2)
    assert said.startswith("error: work/shapes/cam/common/s7 has nothing to show yet. Run `snake")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("runs", "options", "message"),
    [
        (["shapes/cam"], {}, "'shapes/cam' is not a run"),
        (["shapes/cma/common/s0"], {}, "There is no method 'cma'"),
        (["stamps/cam/common/s0"], {}, "work/stamps/data.json is missing"),
        ([CAM, "stamps/cam/common/s0"], {}, "no images in common"),
        (["shapes/crt_localization/common/s0"], {}, "makes boxes, not masks"),
        ([CAM], {"images": "0"}, "neither a number above 0 nor all"),
        ([CAM], {"images": "some"}, "neither a number above 0 nor all"),
        ([CAM], {"output": "work"}, "holds files that are not of a gallery"),
        ([CAM], {"output": "params.yaml"}, "holds files that are not of a gallery"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_line(
    made: Path, runs: list[str], options: dict[str, str], message: str
) -> None:
    with pytest.raises(WsssError, match=message) as refused:
        show(*runs, **options)
    assert "\n" not in str(refused.value)


def test_a_second_gallery_takes_the_place_of_the_first_and_a_broken_one_does_not(
    made: Path,
) -> None:
    show(CAM, images="3")
    folder = made / "results/gallery"
    many = {path.name for path in (folder / "pictures").iterdir()}
    show(CAM, images="2")
    few = {path.name for path in (folder / "pictures").iterdir()}
    assert len(few) < len(many)
    (made / "work" / CAM / "masks.zip").write_bytes(b"cut short")
    with pytest.raises(MissingError, match="masks.zip is damaged"):
        show(CAM, images="3")
    assert {path.name for path in (folder / "pictures").iterdir()} == few
    assert [path.name for path in folder.parent.iterdir()] == ["gallery"]


def test_the_same_runs_give_the_same_bytes(made: Path) -> None:
    for name in ("one", "two"):
        show(CAM, images="2", output=name)
    for path in (path for path in (made / "one").rglob("*") if path.is_file()):
        assert path.read_bytes() == (made / "two" / path.relative_to(made / "one")).read_bytes()


def test_data_in_the_page_cannot_end_its_script() -> None:
    text = as_json({"name": "</script><!--\u2028\udc80"})
    assert "<" not in text
    assert text.isascii()
    assert json.loads(text)["name"] == "</script><!--\u2028\udc80"
