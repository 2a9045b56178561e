"""Boxes: of what stands out, of objects, their overlap, and what the limits include."""

import numpy as np
import pytest

from wsss.scores import boxes

RING = ["......", ".####.", ".#..#.", ".####.", "......"]
DIAMOND = [".....", "..#..", ".#.##", "..#..", "....."]  # a hole, and a tail that has no area


def drawn(rows: list[str]) -> np.ndarray:
    return np.array([[mark == "#" for mark in row] for row in rows])


def largest(rows: list[str]) -> boxes.Box:
    return boxes.above(drawn(rows).astype(np.float32), 0.5)


def test_nothing_stands_out_of_a_constant_map() -> None:
    assert boxes.from_map(np.full((4, 5), 3.0, np.float32), 0.1) == boxes.NOTHING
    assert boxes.above(np.zeros((4, 5), np.float32), 0.1) == boxes.NOTHING
    assert boxes.above(np.ones((4, 5), np.float32), 0.1) == (0, 0, 5, 4)


def test_the_box_is_that_of_the_largest_outline_not_of_the_most_pixels() -> None:
    line = ["########", "........", "###.....", "###.....", "###....."]
    assert largest(line) == (0, 2, 3, 5)
    assert largest(RING) == (1, 1, 5, 4)


def test_pixels_that_touch_at_corners_are_one_object() -> None:
    assert largest(["##..", "##..", "..##", "..##"]) == (0, 0, 4, 4)


def test_areas_go_through_the_centres_of_pixels() -> None:
    found = {area for area, _, _ in boxes.outlines(drawn(RING))}
    assert found == {6.0, 4.0}  # outside 3 x 2; the hole's corners are cut
    assert [area for area, *_ in boxes.outlines(drawn(["#", "#"]))] == [0.0]


def test_of_equal_areas_the_one_that_begins_last_counts() -> None:
    assert largest(["##.##", "##.##"]) == (3, 0, 5, 2)
    assert {area for area, *_ in boxes.outlines(drawn(DIAMOND))} == {2.0}
    assert largest(DIAMOND) == (1, 1, 4, 4)  # the hole's, without the tail


def test_the_level_itself_is_not_high() -> None:
    scores = np.array([[0.5, 1.0], [0.5, 1.0]], np.float32)
    assert boxes.above(scores, 0.5) == (1, 0, 2, 2)
    assert boxes.above(scores, 0.49) == (0, 0, 2, 2)


def test_objects_of_a_mask_have_a_box_each_and_crumbs_have_none() -> None:
    mask = np.zeros((20, 30), bool)
    mask[2:8, 3:9] = mask[10:18, 20:29] = mask[0, 29] = True
    assert boxes.of_objects(mask) == [(3, 2, 6, 6), (20, 10, 9, 8)]
    assert boxes.of_objects(np.zeros((3, 3), bool)) == []


def test_overlaps_count_the_last_pixel() -> None:
    found = boxes.overlaps((0, 0, 9, 9), [(0, 0, 9, 4), (20, 20, 29, 29)])
    assert found["iou"].tolist() == [0.5, 0.0]
    assert found["truth"].tolist() == [1.0, 0.0]
    assert found["own"].tolist() == [0.5, 0.0]


def test_half_an_overlap_is_enough_for_gt_known_alone() -> None:
    half = boxes.score(2, [2, 0], [(0, 0, 9, 9)] * 2, (0, 0, 9, 9), [(0, 0, 9, 4)])
    assert half.gt_known
    assert not half.top1
    assert not half.top5
    more = boxes.score(2, [2, 0], [(0, 0, 9, 9)] * 2, (0, 0, 9, 9), [(0, 0, 9, 5)])
    assert more.top1
    assert more.outcome == "right"


def test_top_5_takes_the_box_of_the_true_class() -> None:
    found = boxes.score(2, [0, 2], [(50, 50, 59, 59), (0, 0, 9, 9)], (0, 0, 9, 9), [(0, 0, 9, 9)])
    assert found.top5
    assert found.gt_known
    assert not found.top1
    assert found.outcome == "class"


@pytest.mark.parametrize(
    ("box", "truth", "wanted"),
    [
        ((0, 0, 9, 9), [(0, 0, 9, 9)], "right"),
        ((0, 0, 19, 9), [(0, 0, 9, 9), (10, 0, 19, 9)], "multi_instance"),
        ((0, 0, 9, 4), [(0, 0, 9, 9)], "part"),
        ((0, 0, 9, 19), [(0, 0, 9, 9)], "more"),  # half of the box is object: not a part
        ((0, 0, 19, 19), [(13, 0, 22, 9)], "more"),  # exactly 0.7 of the object
        ((0, 0, 19, 19), [(14, 0, 23, 9)], "wrong"),
        ((40, 40, 49, 49), [(0, 0, 9, 9)], "wrong"),
    ],
)
def test_how_an_answer_fails(box: boxes.Box, truth: list[boxes.Box], wanted: str) -> None:
    assert boxes.outcome(True, box, truth) == wanted
    assert boxes.outcome(False, box, truth) == "class"
