"""Lists, tables, masks of COCO and boxes of CUB against the reference values."""

from typing import Any

import numpy as np
import pytest
from golden import Golden
from numpy.typing import NDArray

from wsss.data import labelmap
from wsss.datasets import coco, facts, voc
from wsss.scores.boxes import in_frame

OVERLAPS = {"area": "area_asc_first_wins", "last": "order_last_wins", "first": "order_first_wins"}
HASH = "sha256_of_sorted_ids_joined_by_newline"


def test_what_is_known_of_the_lists(golden: Golden) -> None:
    expected = golden.json("dataset_lists.json")
    known = {**facts.expected_lists("voc12"), **facts.expected_lists("coco14")}
    for name in sorted(set(known) & set(expected)):
        ours, theirs = known[name], expected[name]
        golden.same(f"images in the list {name}", ours["images"], theirs["count"])
        assert ours["names"] == theirs[HASH]
        if "labels_sha256" in theirs:
            assert ours["labels"] == theirs["labels_sha256"]
            counts, wanted = ours["images_per_class"], theirs["images_per_class"]
            golden.same(f"images per class of the list {name}", counts, wanted)
            by_number = theirs["images_by_number_of_classes"]
            labels = sum(number * images for number, images in enumerate(by_number))
            golden.same(f"labels of the list {name}", sum(counts), labels)
    beside = {
        name for name in known if name.endswith("small")
    }  # the list that COCO's seeds may use
    assert set(known) - beside <= set(expected)


def test_palette_and_names(golden: Golden) -> None:
    expected = golden.json("tables.json")
    palette = np.reshape(labelmap.palette(), (-1, 3))
    golden.same("palette", palette, expected["voc_palette_rgb"])
    assert [expected["voc_names"][0], *voc.CLASSES] == expected["voc_names"]
    assert [expected["coco_names"][0], *coco.CLASSES] == expected["coco_names"]
    golden.same("category ids of COCO", coco.IDS, expected["coco_category_ids_in_order"])


def images(golden: Golden) -> list[tuple[int, tuple[int, int], list[dict[str, Any]]]]:
    content = golden.json("coco_mini.json")
    coco.check_categories(
        {c["id"]: c["name"] for c in content["categories"]}, golden.path("coco_mini.json")
    )
    return [
        (
            image["id"],
            (image["height"], image["width"]),
            [a for a in content["annotations"] if a["image_id"] == image["id"]],
        )
        for image in content["images"]
    ]


def test_masks_of_coco(golden: Golden) -> None:
    pytest.importorskip("pycocotools")
    expected = golden.arrays("coco_masks.npz")
    raw = np.array([0, *coco.IDS], np.uint8)
    for number, size, annotations in images(golden):
        masks: dict[str, NDArray[np.uint8]] = {
            overlap: coco.paint(annotations, size, overlap) for overlap in OVERLAPS
        }
        for overlap, name in OVERLAPS.items():
            case = f"mask of COCO image {number}, {overlap}"
            golden.same(case, masks[overlap], expected[f"{number}_{name}_contig"])
        wanted = expected[f"{number}_{OVERLAPS['area']}_rawid"]
        golden.same(f"mask of COCO image {number}, raw ids", raw[masks["area"]], wanted)


def test_labels_of_coco_come_from_annotations(golden: Golden) -> None:
    expected = golden.arrays("coco_masks.npz")
    for number, _, annotations in images(golden):
        found = np.zeros(len(coco.CLASSES), np.uint8)
        found[[coco.LABELS[a["category_id"]] - 1 for a in annotations]] = 1
        wanted = expected[f"{number}_label_from_annotations"]
        golden.same(f"labels of COCO image {number}", found, wanted)


def test_boxes_of_cub_in_the_frame(golden: Golden) -> None:
    for number, case in enumerate(golden.json("cub_boxes.json")):
        width, height = case["image_wh"]
        box = tuple(map(float, case["bbox_xywh"]))
        found = in_frame(box, (height, width), case["crop"])
        golden.same(f"box of CUB {number}", found, case["box_xyxy"])
