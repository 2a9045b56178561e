"""`wsss data check` on stand-ins for public datasets: a part of one is allowed, a damaged one is not."""

import json
from collections.abc import Callable
from pathlib import Path

import made_datasets
import numpy as np
import pytest
from answer import Answer, wsss
from made_data import mask
from PIL import Image

from wsss.datasets.voc import CLASSES

DEVKIT = Path("data/VOCdevkit/VOC2012")
SMALL = {
    f"2007_{number:06d}": ("train" if number < 14 else "val", [CLASSES[number % 5]], "devkit")
    for number in range(20)
}


def check(dataset: str, *options: str) -> Answer:
    Path("params.yaml").write_text(f"datasets: [{dataset}]\nmethods: [cam]\n")
    return wsss("data", "check", *options)


@pytest.mark.parametrize(
    ("dataset", "make", "holds"),
    [
        ("voc12", lambda: made_datasets.voc(DEVKIT, SMALL), "20 classes (aeroplane 3, bicycle 3, bird 3, "
         "boat 3, ..., train 0, tvmonitor 0), 14 train, 6 val, 20 masks"),
        ("coco14", lambda: made_datasets.coco14(Path("data/coco14")), "2 train, 1 val, masks are painted "
         "by `wsss data prepare`"),
        ("cub", lambda: made_datasets.cub(Path("data/CUB_200_2011")), "2 classes (Black_footed_Albatross "
         "1, Laysan_Albatross 1), 2 train, 2 val, 4 boxes"),
    ],
)  # fmt: skip
def test_a_part_of_a_public_dataset_is_allowed_with_remarks(
    work: Path, dataset: str, make: Callable[[], object], holds: str
) -> None:
    make()
    answer = check(dataset)
    answer.accepts()
    *remarks, last, end = answer.out.splitlines()
    assert last.startswith(f"{dataset}: ")
    assert last.endswith(holds)
    assert end == f"No errors found, {len(remarks)} remarks."
    assert all(line.startswith(f"{dataset}: remark: ") for line in remarks)
    assert not [line for line in remarks if "mask" in line]
    assert len([line for line in remarks if "not comparable with published ones" in line]) == 2
    check(dataset, "--strict").refuses(f"{len(remarks)} remarks found")
    wsss("data", "prepare", dataset).accepts()


def test_every_dataset_has_a_line_even_if_it_is_not_drawn_yet(work: Path) -> None:
    made_datasets.cub(Path("data/CUB_200_2011"))
    Path("params.yaml").write_text("datasets: [shapes, cub]\nmethods: [cam]\n")
    answer = wsss("data", "check")
    answer.accepts()
    assert answer.out.startswith("shapes: not drawn yet; `wsss data prepare shapes` draws it\n")
    assert "cub: 2 classes" in answer.out


@pytest.mark.parametrize(("name", "split"), [("2007_000015", "val"), ("2007_000003", "train")])
def test_a_devkit_that_lacks_single_masks_is_refused(work: Path, name: str, split: str) -> None:
    made_datasets.voc(DEVKIT, SMALL)
    for folder in ("SegmentationClass", "SegmentationClassAug"):
        (DEVKIT / folder / f"{name}.png").unlink()
    count = len([entry for entry in SMALL.values() if entry[0] == split])
    message = f"1 of {count} images of the split {split} have no mask (the first is '{name}')"
    check("voc12").refuses(f"error: {message}")
    wsss("data", "prepare", "voc12").refuses(message)


def test_masks_of_a_devkit_in_another_order_are_refused(work: Path) -> None:
    made_datasets.voc(DEVKIT, SMALL)
    for name, (_, [label], _) in SMALL.items():
        mask(DEVKIT / "SegmentationClass" / f"{name}.png", 5 - CLASSES.index(label), 255)
    answer = check("voc12")
    answer.refuses(
        "The masks number the classes in another order, [bottle, boat, bird, bicycle, aer"
    )
    assert "Unpack the masks again, or renumber them." in answer.out


def test_an_image_in_two_lists_is_refused(work: Path) -> None:
    made_datasets.voc(DEVKIT, SMALL)
    with (DEVKIT / "ImageSets/Segmentation/val.txt").open("a") as names:
        names.write("\n2007_000003\n")
    check("voc12").refuses("Two images are named '2007_000003' (in train and val)")
    wsss("data", "prepare", "voc12").refuses("Two images are named '2007_000003'")


def test_wrong_annotations_of_coco_are_named_by_check_and_prepare(work: Path) -> None:
    root = made_datasets.coco14(Path("data/coco14"))
    path = root / "annotations/instances_val2014.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["annotations"][0]["area"]
    path.write_text(json.dumps(content))
    message = f"{path}: the annotation 1 has no area. Correct the file, or unpack annotations"
    check("coco14").refuses(f"coco14: error: {message}")
    pytest.importorskip("pycocotools")
    wsss("data", "prepare", "coco14").refuses(message)


def test_a_file_that_is_nested_without_end_is_refused(work: Path) -> None:
    root = made_datasets.coco14(Path("data/coco14"))
    (root / "annotations/instances_val2014.json").write_bytes(b"[" * 100_000)
    check("coco14").refuses("instances_val2014.json is not an instances file of COCO (it is nested")
    wsss("data", "prepare", "coco14").refuses("it is nested more than 100 levels deep")


def test_painted_masks_need_no_pixel_of_every_object(work: Path) -> None:
    pytest.importorskip("pycocotools")
    made_datasets.coco14(Path("data/coco14"))
    assert check("coco14").code == 0
    wsss("data", "prepare", "coco14").accepts()
    index = json.loads(Path("work/coco14/index.json").read_text())
    assert "keyboard" in index["images"][0]["labels"]  # which is too small for a pixel
    answer = check("coco14")
    answer.accepts()
    assert answer.out.splitlines()[-2].endswith("2 train, 1 val, 3 masks")


def test_masks_of_one_grey_value_are_named_once(work: Path) -> None:
    made_datasets.voc(DEVKIT, SMALL)
    for path in (DEVKIT / "SegmentationClass").iterdir():
        values = np.asarray(Image.open(path))
        Image.fromarray(np.where(values % 255 > 0, 128, values).astype(np.uint8)).save(path)
    answer = check("voc12")
    answer.refuses("The masks have the one value 128 for the objects of all classes.")
    assert answer.out.count("error: ") == 1
