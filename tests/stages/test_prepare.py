"""`wsss data prepare` writes the index, the archive and the record of a dataset."""

import json
from pathlib import Path

import made_datasets
import pytest
from answer import wsss

from wsss.data.images import load_image, load_mask
from wsss.data.index import load_index
from wsss.data.index_parts import PARTS
from wsss.errors import ConfigError, DatasetError
from wsss.runs.fingerprint import reached
from wsss.runs.inputs import data_code, data_files, data_slice
from wsss.settings import (
    CocoParams,
    CsvParams,
    CubParams,
    DataParams,
    Params,
    ShapesParams,
    StampsParams,
)
from wsss.stages.check import problems
from wsss.stages.prepare import prepare
from wsss.storage.files import sha256

NAMES = ("shapes", "stamps", "voc12", "coco14", "cub", "ponds")
INDEX = ("index.json", *(f"index/{part}.json" for part in PARTS))
TINY = ShapesParams(train=14, val=2, min_px=48, max_px=64)


def test_a_drawn_dataset_is_an_archive_an_index_and_a_record(work: Path) -> None:
    params = Params(data=DataParams(shapes=TINY))
    prepare(params, "shapes")
    folder = Path("work/shapes")
    assert sorted(path.name for path in folder.iterdir()) == [
        "data.json",
        "files.json",
        "images.zip",
        "index",
        "index.json",
    ]
    index = load_index(folder / "index.json")
    assert len(index.training()) == 14
    assert index.images[0].path == "work/shapes/images.zip/images/train-00000.png"
    assert load_image(index.images[0].path).shape[:2] == load_mask(index.images[0].mask or "").shape
    record = json.loads((folder / "data.json").read_text())
    assert record["params"] == data_slice(params, "shapes")
    assert record["code"] == data_code("shapes")
    assert record["outputs"] == {
        f"work/shapes/{name}": sha256(folder / name) for name in ("images.zip", *INDEX)
    }
    assert record["images"] == {"train": 14, "aug": 0, "val": 2, "test": 0}


def test_stamps_and_tables_and_the_devkit_are_prepared(
    work: Path, stamp_folder: Path, table: Path
) -> None:
    params = Params(
        data=DataParams(
            stamps=StampsParams(
                root=str(stamp_folder), backgrounds="textures", train=22, val=11, size_px=64
            ),
            csv={"ponds": CsvParams(table=str(table / "images.csv"), root=str(table))},
        )
    )
    for dataset, count in (("stamps", 33), ("ponds", 4)):
        prepare(params, dataset)
        index = load_index(Path(f"work/{dataset}/index.json"))
        assert len(index.images) == count
        assert load_image(index.images[0].path).shape[:2] == index.images[0].size
    assert not Path("work/ponds/images.zip").exists()


def test_nothing_is_written_for_data_that_cannot_be_trained_on(work: Path, table: Path) -> None:
    text = (table / "images.csv").read_text()
    (table / "images.csv").write_text(text.replace("newt,val", "newt; carp; toad,val"))
    own = CsvParams(table=str(table / "images.csv"), root=str(table))
    params = Params(data=DataParams(csv={"ponds": own}))
    with pytest.raises(DatasetError, match=r"'carp' has no training image.* \(1 more: `wsss"):
        prepare(params, "ponds")
    assert not Path("work/ponds/index.json").exists()


def test_a_part_of_a_public_dataset_is_prepared_with_remarks(work: Path, devkit: Path) -> None:
    settings = {"datasets": ["voc12"], "data": {"voc12": {"root": str(devkit)}}}
    Path("params.yaml").write_text(json.dumps(settings))
    answer = wsss("data", "prepare", "voc12")
    answer.accepts()
    assert len(load_index(Path("work/voc12/index.json")).classes) == 20
    assert "voc12: remark: 15 of 20 classes have no training image" in answer.err
    assert "The list train of voc12 has 2 images, not 1464. Numbers are not" in answer.err
    assert answer.err.endswith("2 train, 2 aug, 1 val, 5 masks\n")


def texts(params: Params, dataset: str) -> list[str]:
    found = list(problems(params, dataset))
    assert {problem.severity for problem in found} == {"remark"}
    return [problem.text for problem in found]


def test_cub_and_coco_are_prepared_with_their_boxes_and_masks(work: Path) -> None:
    pytest.importorskip("pycocotools")
    params = Params(
        data=DataParams(
            coco14=CocoParams(root=str(made_datasets.coco14(work / "coco14", every_class=True))),
            cub=CubParams(root=str(made_datasets.cub(work / "cub"))),
        )
    )
    for dataset, files in (("coco14", ["index.json", "masks.zip"]), ("cub", ["index.json"])):
        before = texts(params, dataset)
        prepare(params, dataset)
        folder = Path("work") / dataset
        names = ["data.json", "files.json", "index", *files]
        assert sorted(p.name for p in folder.iterdir()) == names
        record = json.loads((folder / "data.json").read_text())
        outputs = {f"work/{dataset}/{name}" for name in (*INDEX, *files)}
        assert set(record["outputs"]) == outputs
        assert [path.as_posix() for path in data_files(params, dataset)] == [
            f"work/{dataset}/{name}" for name in files
        ]
        assert before == texts(params, dataset)
        assert all("use the official lists" in text for text in before)
    index = load_index(Path("work/coco14/index.json"))
    assert load_mask(index.images[0].mask or "").shape == index.images[0].size
    assert load_index(Path("work/cub/index.json")).images[0].boxes


def test_an_unknown_dataset_is_refused(work: Path) -> None:
    with pytest.raises(ConfigError, match="'shape' is not one of shapes, stamps, voc12"):
        prepare(Params(), "shape")


def test_the_fingerprint_of_a_dataset_holds_its_reader_alone() -> None:
    places = reached(("stages.prepare", "datasets.drawn.shapes"))
    shapes = {place.module for place in places}
    assert "wsss.datasets.drawn.stamps" not in shapes
    assert "wsss.datasets.drawn.outlines" in shapes
    assert len({data_code(name) for name in NAMES}) == len(NAMES)
