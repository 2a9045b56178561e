"""`wsss data check` names every problem of a dataset, and nothing where there is none."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from made_data import mask, picture
from PIL import Image

from wsss.settings import CsvParams, DataParams, Params, ShapesParams, StampsParams, VocParams
from wsss.stages import check
from wsss.stages.prepare import prepare


def ponds(folder: Path) -> Params:
    own = CsvParams(table=str(folder / "images.csv"), root=str(folder))
    return Params(datasets=("ponds",), data=DataParams(csv={"ponds": own}))


def voc(root: Path) -> Params:
    return Params(datasets=("voc12",), data=DataParams(voc12=VocParams(root=str(root))))


def problems(params: Params, dataset: str) -> list[str]:
    return [f"{problem.severity}: {problem.text}" for problem in check.problems(params, dataset)]


def change(folder: Path, old: str, new: str) -> None:
    table = folder / "images.csv"
    assert old in table.read_text()
    table.write_text(table.read_text().replace(old, new))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


def coloured(path: Path) -> None:
    Image.new("RGB", (24, 24)).save(path)


def test_good_data_has_no_problem(table: Path, tmp_path: Path) -> None:
    assert list(problems(ponds(table), "ponds")) == []


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda f: truncate(f / "photos/p1.png"), "The image {}/photos/p1.png is damaged ("),
        (lambda f: picture(f / "photos/p1.png", 7, (24, 9)), "p1.png is 9 x 24 px. Use sides"),
        (lambda f: (f / "photos/p1.png").unlink(), "line 3: {}/photos/p1.png is missing"),
        (lambda f: mask(f / "masks/p1.png", 1, size=(24, 30)), "The mask {}/masks/p1.png is 30 x 24"),
        (lambda f: mask(f / "masks/p1.png", 3), "masks/p1.png has the value 3, but labels are 0 to 2"),
        (lambda f: truncate(f / "masks/p1.png"), "The mask {}/masks/p1.png cannot be read ("),
        (lambda f: coloured(f / "masks/p1.png"), "The mask {}/masks/p1.png has colours (RGB)"),
        (lambda f: shutil.copy(f / "photos/p0.png", f / "photos/p2.png"),
         "The images 'p0' (train) and 'p2' (val) are the same"),
        (lambda f: change(f, "p1.png,frog; newt", "p1.png,"), "The training image 'p1' has no label"),
        (lambda f: change(f, "p2.png,frog; newt", "p2.png,toad"),
         "The class 'toad' has no training image"),
        (lambda f: change(f, ",val,", ",test,"), "No image is in the split val"),
        (lambda f: change(f, ",train,", ",test,"), "No image is in the split train"),
        (lambda f: change(f, "val,masks/p2.png", "val,"), "No image of the split val has a mask"),
    ],
)  # fmt: skip
def test_a_problem_is_named_in_one_line(
    table: Path, spoil: Callable[[Path], object], expected: str
) -> None:
    spoil(table)
    found = list(problems(ponds(table), "ponds"))
    assert any(expected.format(table) in problem for problem in found), found
    assert not any("\n" in problem for problem in found)


def test_one_cause_in_several_images_is_one_line(table: Path) -> None:
    for number in range(3):
        mask(table / f"masks/p{number}.png", 1, size=(24, 30 + number))
    change(table, "p0.png,frog; newt", "p0.png,")
    change(table, "p1.png,frog; newt", "p1.png,")
    found = [problem for problem in problems(ponds(table), "ponds") if "The same holds" in problem]
    assert [problem.partition("The same holds for ")[2] for problem in found] == [
        "1 more: p1.",
        "2 more: p1, p2.",
    ]
    assert "'p0' has no label" in found[0]
    assert "p0.png is 30 x 24 px, its image 24 x 24" in found[1]


def test_all_problems_are_named_at_once(table: Path) -> None:
    truncate(table / "photos/p0.png")
    mask(table / "masks/p1.png", 9)
    (table / "photos/p3.png").unlink()
    assert len(list(problems(ponds(table), "ponds"))) == 3


def test_a_small_devkit_is_remarked_upon_in_four_lines(devkit: Path) -> None:
    found = problems(voc(devkit), "voc12")
    assert [problem.split(" of voc12")[0] for problem in found[1:]] == [
        "remark: The list train",
        "remark: The list train+aug",
        "remark: The list val",
    ]
    assert "15 of 20 classes have no training image (aeroplane, bicycle, bird and 12" in found[0]
    assert found[0].startswith("remark: ")


def test_masks_without_void_contours_are_refused_for_scoring(devkit: Path) -> None:
    shutil.rmtree(devkit / "SegmentationClass")
    found = [p for p in problems(voc(devkit), "voc12") if "void" in p]
    assert [p.split(" have")[0] for p in found] == [
        "error: 2 of 2 masks of the split train",
        "error: 1 of 1 masks of the split val",
    ]


def test_absent_sources_are_named(tmp_path: Path) -> None:
    none = str(tmp_path / "none")
    params = Params(
        data=DataParams(
            stamps=StampsParams(root=none),
            voc12=VocParams(root=none),
            csv={"ponds": CsvParams(table=f"{none}.csv")},
        )
    )
    for dataset, word in (
        ("stamps", "apt-get"),
        ("voc12", "data.voc12.root"),
        ("ponds", "data.csv"),
    ):
        (problem,) = problems(params, dataset)
        assert word in problem


def test_drawn_data_is_checked_once_it_is_there(work: Path) -> None:
    params = Params(data=DataParams(shapes=ShapesParams(train=14, val=2, min_px=48, max_px=64)))
    assert list(problems(params, "shapes")) == []
    prepare(params, "shapes")
    assert list(problems(params, "shapes")) == []
    path = work / "work/shapes/index.json"
    content = json.loads(path.read_text())
    content["images"][0]["size"] = [5, 5]
    content["images"][1]["checksum"] = content["images"][-1]["checksum"]
    path.write_text(json.dumps(content))
    found = list(problems(params, "shapes"))
    assert len(found) == 3
    assert any("has changed since the index was made" in problem for problem in found)
    assert any("are the same" in problem for problem in found)
