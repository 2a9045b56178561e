"""COCO: what a half-gigabyte file becomes, an image at a time, and what is refused."""

import json
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_datasets
import numpy as np
import pytest

from wsss.data import labelmap
from wsss.data.images import load_image, load_mask
from wsss.data.index import Index
from wsss.datasets import coco
from wsss.datasets.coco_json import Annotation, Instances
from wsss.errors import DatasetError, MissingError, StorageError
from wsss.settings import CocoParams
from wsss.storage.archive import Reader

SIDE = made_datasets.SIDE


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return made_datasets.coco14(tmp_path / "coco14")


def scan(root: Path, **settings: Any) -> tuple[Index, list[str]]:
    return coco.scan(CocoParams(root=str(root), **settings), "coco14")


def convert(root: Path, **settings: Any) -> Index:
    pytest.importorskip("pycocotools")
    return coco.convert(CocoParams(root=str(root), **settings), "coco14", root / "masks.zip")


def annotations(root: Path, folder: str = "train2014") -> Path:
    return root / "annotations" / f"instances_{folder}.json"


def test_labels_come_from_annotations_crowds_and_hidden_objects_included(root: Path) -> None:
    index, problems = scan(root)
    assert problems == []
    assert {entry.name: (entry.split, set(entry.labels)) for entry in index.images} == {
        "COCO_train2014_000000000009": ("train", {"person", "cat", "keyboard", "toothbrush"}),
        "COCO_train2014_000000000025": ("train", {"car", "chair"}),
        "COCO_val2014_000000000042": ("val", {"person"}),
    }
    assert index.images[0].labels == ("person", "cat", "keyboard", "toothbrush")  # in class order


def test_images_without_annotations_are_listed_if_asked_for(root: Path) -> None:
    index, _ = scan(root, images="all")
    assert [len(index.split(split)) for split in ("train", "val")] == [3, 2]
    assert index.split("val")[1].labels == ()


def test_seeds_may_be_scored_on_the_small_list_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [
        coco.in_small(f"COCO_train2014_{number:012}") for number in (8, 9, 250, 12953, 12954)
    ] == [
        False,
        True,
        False,
        True,
        False,
    ]
    monkeypatch.setattr(coco, "SMALL", ((0, 24, {3}),))
    index, _ = scan(root, seeds="small")
    splits = {int(entry.name[-3:]): entry.split for entry in index.images}
    assert splits == {9: "train", 25: "aug", 42: "val"}


def test_grey_photographs_are_read_in_colour(root: Path) -> None:
    index, _ = scan(root)
    assert load_image(index.split("train")[1].path).shape == (SIDE, SIDE, 3)


def test_the_ids_are_ninety_with_ten_gaps() -> None:
    assert len(coco.CLASSES) == len(coco.IDS) == len(set(coco.CLASSES)) == 80
    assert (coco.LABELS[1], coco.LABELS[11], coco.LABELS[13], coco.LABELS[90]) == (1, 11, 12, 80)


def test_masks_are_painted_with_contiguous_labels_into_an_archive(root: Path) -> None:
    index = convert(root, images="all")
    assert Reader(root / "masks.zip").names() == sorted(f"{e.name}.png" for e in index.images)
    first = load_mask(index.split("train")[0].mask or "")
    assert np.unique(first).tolist() == [0, 1, 16, 80]  # the tiny keyboard has no pixel
    assert (first[8:12, 8:12] == 80).all()  # the smaller object is on top
    assert (first[2:4, 3:9] == 16).all()  # the crowd
    assert load_mask(index.split("val")[1].mask or "").any() == np.False_


@pytest.mark.parametrize(("overlap", "inside"), [("area", 80), ("first", 80), ("last", 1)])
def test_who_wins_a_pixel_is_a_setting(root: Path, overlap: str, inside: int) -> None:
    mask = load_mask(convert(root, overlap=overlap).split("train")[0].mask or "")
    assert mask[10, 10] == inside


def test_of_equal_areas_the_first_wins(root: Path) -> None:
    mask = load_mask(convert(root).split("train")[1].mask or "")
    assert (mask[8, 8], mask[14, 14]) == (3, coco.LABELS[62])


def test_compressed_run_lengths_are_read_too(root: Path) -> None:
    routines = pytest.importorskip("pycocotools.mask")
    inside = np.zeros((SIDE, SIDE), np.uint8)
    inside[3:9, 2:20] = 1
    runs = routines.encode(np.asfortranarray(inside))
    shape = {"size": runs["size"], "counts": runs["counts"].decode()}
    annotation = Annotation(id=1, category_id=90, segmentation=shape, area=1)
    assert np.array_equal(coco.paint([annotation], (SIDE, SIDE), "area"), inside * 80)


def test_without_the_mask_routines_one_line_says_what_to_install(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycocotools", None)
    with pytest.raises(MissingError, match="uv sync --extra coco"):
        coco.convert(CocoParams(root=str(root)), "coco14", root / "masks.zip")


def change(edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        content = json.loads(annotations(root).read_text())
        edit(content)
        annotations(root).write_text(json.dumps(content))

    return apply


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: annotations(r).unlink(), "instances_train2014.json cannot be read (No such"),
        (lambda r: annotations(r).write_text("[1, 2]"), "is not an instances file of COCO (it has"),
        (lambda r: annotations(r).write_bytes(annotations(r).read_bytes()[:900]), "(parse error: premature EOF)"),
        (lambda r: annotations(r).write_bytes(b"\x89PNG"), "(lexical error: invalid char in json text.)"),
        (change(lambda c: c.update(images=[7])), "an entry of its images is not a mapping"),
        (change(lambda c: c["annotations"][0].pop("area")), "an entry has no 'area'"),
        (change(lambda c: c["annotations"][0].update(category_id=12)), "is of category 12, not listed"),
        (change(lambda c: c["categories"].pop()), "the category 90 is 'absent', not 'toothbrush'"),
        (change(lambda c: c["categories"][10].update(id=12)), "the category 11 is 'absent', not"),
        (change(lambda c: c["images"][0].pop("height")), "is not an instances file of COCO (an entry has no 'height')"),
        (change(lambda c: c["images"][0].update(height=9)), "000009.jpg is 24 x 24 px, not 24 x 9"),
        (lambda r: (r / "train2014/COCO_train2014_000000000009.jpg").unlink(), "000009.jpg is missing"),
    ],
)  # fmt: skip
def test_broken_files_are_named_in_one_line(
    root: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(root)
    _, problems = scan(root)
    assert len(problems) == 1
    assert message in problems[0]
    assert "\n" not in problems[0]


def test_a_broken_annotation_leaves_no_archive(root: Path) -> None:
    change(lambda content: content["annotations"][0].update(segmentation=[[1.0, 2.0, 3.0]]))(root)
    with pytest.raises(DatasetError, match="no polygons or run lengths"):
        convert(root)
    assert [path.name for path in root.iterdir() if "zip" in path.name] == []


def test_each_image_has_its_own_annotations_though_they_are_scattered(root: Path) -> None:
    content = json.loads(annotations(root).read_text(encoding="utf-8"))
    instances = Instances(annotations(root))
    assert [image.image_id for image in instances.images] == [e["id"] for e in content["images"]]
    for image, objects in instances.annotations():
        expected = [a for a in content["annotations"] if a["image_id"] == image.image_id]
        keys = Annotation.__annotations__
        assert objects == [{key: entry[key] for key in keys} for entry in expected]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_annotations(root: Path) -> None:
    def repeat(content: dict[str, Any]) -> None:
        polygon = [float(number % SIDE) for number in range(2000)]
        one = {**content["annotations"][0], "segmentation": [polygon]}
        content["images"] = [{**content["images"][0], "id": number} for number in range(500)]
        content["annotations"] = [{**one, "image_id": number} for number in range(500)]

    change(repeat)(root)
    tracemalloc.start()
    for _, objects in Instances(annotations(root)).annotations():
        assert len(objects) == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert annotations(root).stat().st_size > 4e6
    assert peak < 2e6


def test_a_full_disk_for_temporary_files_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: open("/dev/full", "r+b", 0))  # noqa: PTH123, SIM115
    with pytest.raises(StorageError, match="the disk is full"):
        list(Instances(annotations(root)).annotations())


def test_palette_pngs_are_what_the_archive_holds(root: Path) -> None:
    index = convert(root)
    content = Reader(root / "masks.zip").read(f"{index.images[0].name}.png")
    assert labelmap.decode(content, "mask").shape == index.images[0].size
    assert b"PLTE" in content
