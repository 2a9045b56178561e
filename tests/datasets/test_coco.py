"""COCO: what a half-gigabyte file becomes, an image at a time, and what is refused."""

import io
import json
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss.data import labelmap
from wsss.data.images import load_image, load_mask
from wsss.data.index import Index
from wsss.datasets import coco
from wsss.datasets.coco_json import Annotation, Instances, ShallowFile
from wsss.datasets.coco_shapes import shape_fault
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
        (change(lambda c: c["annotations"][0].pop("area")), "the annotation 1 has no area. Correct"),
        (change(lambda c: c["annotations"][0].update(category_id=12)), "the annotation 1 has the category_id 12, but the file lists no"),
        (change(lambda c: c["categories"].pop()), "the category 90 is 'absent', not 'toothbrush'"),
        (change(lambda c: c["categories"][10].update(id=12)), "the category 11 is 'absent', not"),
        (change(lambda c: c["images"][0].pop("height")), "is not an instances file of COCO (an entry has no 'height')"),
        (change(lambda c: c["images"][1].update(height=9)), "000025.jpg is 24 x 24 px, not 24 x 9"),
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


def wrong(**values: object) -> Callable[[Path], None]:
    """Return what gives the first annotation of train2014 other values, and leaves out those of None."""

    def edit(content: dict[str, Any]) -> None:
        first = content["annotations"][0]
        first.update(values)
        for key in [key for key, value in values.items() if value is None]:
            del first[key]

    return change(edit)


CROWD = {"size": [SIDE, SIDE], "counts": [SIDE * SIDE]}
WRONG_ANNOTATIONS = [
    (wrong(id=None), "the annotation in place 1 of the list has no id."),
    (wrong(id="x"), "the annotation in place 1 of the list has the id 'x', which is no whole number."),
    (wrong(image_id=None), "the annotation 1 has no image_id."),
    (wrong(image_id=7), "the annotation 1 has the image_id 7, but the file lists no such image."),
    (wrong(image_id=[9]), "has the image_id [9], which is no whole number."),
    (wrong(category_id=None), "the annotation 1 has no category_id."),
    (wrong(category_id=91), "has the category_id 91, but the file lists no such category."),
    (wrong(category_id="1"), "has the category_id '1', which is no whole number."),
    (wrong(category_id=[1]), "has the category_id [1], which is no whole number."),
    (wrong(category_id={"a": 1}), "has the category_id {'a': 1}, which is no whole number."),
    (wrong(category_id=True), "has the category_id True, which is no whole number."),
    (wrong(category_id=1.5), "has the category_id 1.5, which is no whole number."),
    (wrong(area=None), "the annotation 1 has no area."),
    (wrong(area="9"), "has the area '9', which is no number of pixels."),
    (wrong(area=-9), "has the area -9, which is no number of pixels."),
    (wrong(area=[9]), "has the area [9], which is no number of pixels."),
    (wrong(segmentation=None), "the annotation 1 has no segmentation."),
    (wrong(segmentation="x"), "(it is 'x')."),
    (wrong(segmentation=7), "(it is 7)."),
    (wrong(segmentation=[7, 7, 7, 7, 7, 7]), "(7 is no list of x, y, x, y, ...)."),
    (wrong(segmentation=[[1.0, 2.0, 3.0, 4.0]]), "(a polygon of 4 numbers)."),
    (wrong(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "(a polygon of 7 numbers)."),
    (wrong(segmentation=[[1, 2, 3, 4, 5, "6"]]), "([1, 2, 3, 4, 5, '6'] has more than numbers)."),
    (wrong(segmentation=[[1, 2, 3, 4, 5, [6]]]), "has more than numbers)."),
    (wrong(segmentation=[[1, 2, 3, 4, 5, 1e9]]), "(the coordinates 1 to 1e+09 are far outside"),
    (wrong(segmentation={}), "(its size is None, that of the image [24, 24])."),
    (wrong(segmentation={"size": [9, 9], "counts": [81]}), "(its size is [9, 9], that of the image"),
    (wrong(segmentation={**CROWD, "counts": [9]}), "(its counts are of 9 pixels, the image has 576)."),
    (wrong(segmentation={**CROWD, "counts": [-24, 600]}), "(its counts are [-24, 600])."),
    (wrong(segmentation={**CROWD, "counts": [288.0, 288]}), "(its counts are [288.0, 288])."),
    (wrong(segmentation={**CROWD, "counts": "00o"}), "(its counts are '00o')."),
    (wrong(segmentation={**CROWD, "counts": "Größe"}), "(its counts are 'Größe')."),
    (wrong(segmentation={**CROWD, "counts": "ooooooooooooooo"}), "(its counts are 'ooo"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), WRONG_ANNOTATIONS)
def test_a_wrong_annotation_is_named_by_check_and_prepare(
    root: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(root)
    (problem,) = scan(root)[1]
    assert problem.startswith(f"{annotations(root)}: the annotation ")
    assert message in problem
    assert problem.endswith("Correct the file, or unpack annotations_trainval2014.zip again.")
    with pytest.raises(DatasetError) as caught:
        convert(root)
    assert str(caught.value) == problem
    assert not (root / "masks.zip").exists()


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 999))
def test_run_lengths_that_pycocotools_writes_are_no_fault(
    height: int, width: int, seed: int
) -> None:
    routines = pytest.importorskip("pycocotools.mask")
    noise = np.random.default_rng(seed).random((height, width))
    for inside in (noise < 0.5, noise < 0.03, noise < 0, noise < 2):
        runs = routines.encode(np.asfortranarray(inside.astype(np.uint8)))
        shape = {"size": runs["size"], "counts": runs["counts"].decode()}
        assert shape_fault(shape, (height, width)) is None
        assert shape_fault(made_datasets.run_lengths(inside), (height, width)) is None
        assert shape_fault({**shape, "counts": shape["counts"][:-1]}, (height, width))


def test_one_line_tells_of_all_annotations_with_the_same_fault(root: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            del annotation["area"]
        content["annotations"][2]["category_id"] = 12

    change(spoil)(root)
    areas, categories = scan(root)[1]
    assert "the annotation 1 has no area (4 more have a wrong area)." in areas
    assert "the annotation 3 has the category_id 12" in categories


def nested(levels: int) -> list[Any]:
    """Return a list in a list in a list ..."""
    outer: list[Any] = []
    for _ in range(levels):
        outer = [outer]
    return outer


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change(lambda c: c["images"][0].update(file_name=7)), "has the id 9 and the file_name 7"),
        (change(lambda c: c["images"][0].update(file_name="../a.jpg")), "the file_name '../a.jpg'"),
        (change(lambda c: c["images"][0].update(file_name="a\0.jpg")), "the file_name 'a"),
        (change(lambda c: c["images"][0].update(id=[9])), "an image has the id [9]"),
        (change(lambda c: c["images"][0].update(id=25)), "two of its images have the same id"),
        (change(lambda c: c["images"][0].update(width="24")), "the image 9 has no height and width"),
        (change(lambda c: c["images"][0].update(height=0)), "the image 9 has no height and width"),
        (change(lambda c: c["categories"][0].update(id="1")), "a category has the id '1'"),
        (change(lambda c: c["categories"][0].update(id=[1])), "a category has the id [1]"),
        (change(lambda c: c["categories"][0].update(name=[])), "and the name []"),
        (change(lambda c: c.update(images=nested(200))), "nested more than 100 levels"),
        (lambda r: annotations(r).write_text("[" * 100_000), "nested more than 100 levels deep"),
        (lambda r: annotations(r).write_text('{"a":' * 100_000), "nested more than 100 levels deep"),
    ],
)  # fmt: skip
def test_a_list_that_is_no_list_of_coco_is_refused_in_one_line(
    root: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(root)
    (problem,) = scan(root, seeds="small")[1]
    assert "instances_train2014.json is not an instances file of COCO (" in problem
    assert message in problem
    with pytest.raises(DatasetError, match="is not an instances file of COCO"):
        convert(root)


def test_the_small_list_names_no_image_without_a_number() -> None:
    assert not coco.in_small("cat")


@settings(max_examples=30)
@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(
    st.text(), inner)), st.integers(1, 9), st.booleans())  # fmt: skip
def test_brackets_in_strings_are_no_levels(content: object, size: int, ascii_only: bool) -> None:
    encoded = json.dumps(["[[{" * 40, content, '\\"[', "\\"], ensure_ascii=ascii_only).encode()
    file = ShallowFile(io.BytesIO(encoded))
    chunks = iter(lambda: file.read(size), b"")
    assert b"".join(chunks) == encoded


@pytest.mark.parametrize(("levels", "is_read"), [(100, True), (101, False)])
def test_a_hundred_levels_are_read_and_no_more(levels: int, is_read: bool) -> None:
    content = json.dumps(nested(levels - 1)).encode()
    if is_read:
        assert ShallowFile(io.BytesIO(content)).read() == content
    else:
        with pytest.raises(ValueError, match="nested more than 100 levels"):
            ShallowFile(io.BytesIO(content)).read()


def test_a_broken_annotation_leaves_no_archive(root: Path) -> None:
    change(lambda content: content["annotations"][0].update(segmentation=[[1.0, 2.0, 3.0]]))(root)
    with pytest.raises(
        DatasetError, match=r"the annotation 1 has a segm.* \(a polygon of 3 numbers\)"
    ):
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
