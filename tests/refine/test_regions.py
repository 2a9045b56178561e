"""SEPL's rule on drawn regions."""

from pathlib import Path

import numpy as np
import pytest

from wsss.errors import DatasetError, MissingError
from wsss.refine.regions import check_regions, load_regions, region_files, snap


def boxes(*corners: tuple[int, int, int, int], size: tuple[int, int] = (8, 8)) -> np.ndarray:
    """Return masks of boxes (top, left, bottom, right), the last two exclusive."""
    masks = np.zeros((len(corners), *size), bool)
    for mask, (top, left, bottom, right) in zip(masks, corners, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def painted(**labels: tuple[int, int, int, int]) -> np.ndarray:
    image = np.zeros((8, 8), np.uint8)
    for name, corners in labels.items():
        image[boxes(corners)[0]] = int(name[1:])
    return image


def test_a_class_fills_the_region_that_it_mostly_covers() -> None:
    labels = painted(_1=(0, 0, 4, 3))
    assert (snap(labels, boxes((0, 0, 4, 4))) == painted(_1=(0, 0, 4, 4))).all()


def test_exactly_half_of_a_region_is_too_little() -> None:
    labels = painted(_1=(0, 0, 4, 4))
    masks = boxes((0, 2, 4, 6))  # half of it is of the class, and half of the class in it
    assert (snap(labels, masks) == painted(_1=(0, 0, 4, 2))).all()


def test_a_large_region_is_taken_if_it_holds_nearly_the_whole_class() -> None:
    labels = painted(_1=(0, 0, 4, 5))
    assert (snap(labels, boxes((0, 0, 8, 8))) == 1).all()  # 31 % of the mask, but all of the class
    assert (
        snap(labels, boxes((0, 1, 8, 8))) == painted(_1=(0, 0, 4, 1))
    ).all()  # 80 % of the class


def test_pixels_outside_all_regions_stay() -> None:
    labels = painted(_2=(0, 0, 2, 2))
    assert (snap(labels, boxes((6, 6, 8, 8))) == labels).all()
    assert (snap(labels, boxes()) == labels).all()


def test_a_region_that_a_class_took_covers_nothing_of_the_next() -> None:
    labels = painted(_1=(0, 0, 4, 3), _2=(0, 3, 4, 4))
    expected = painted(_1=(0, 0, 4, 3), _2=(0, 3, 4, 4))
    assert (snap(labels, boxes((0, 0, 4, 4))) == expected).all()


def test_unlabelled_pixels_stay_where_no_region_is_painted() -> None:
    labels = painted(_1=(0, 0, 4, 3), _255=(0, 3, 8, 5))
    expected = painted(_255=(0, 3, 8, 5), _1=(0, 0, 4, 4))
    assert (snap(labels, boxes((0, 0, 4, 4))) == expected).all()


def write(path: Path, **arrays: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **arrays)


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "regions"
    with pytest.raises(MissingError, match="correct pseudo.regions"):
        check_regions(folder, ["a"])
    write(folder / "a.npz", masks=boxes((0, 0, 4, 4)))
    write(folder / "b.npz", masks=boxes((0, 0, 4, 4)).astype(np.uint8))
    write(folder / "c.npz", segments=boxes((0, 0, 4, 4)))
    (folder / "d.npz").write_bytes(b"nothing")
    assert load_regions(folder, "a", (8, 8)).shape == (1, 8, 8)
    assert region_files(folder, ["a"]) == [folder / "a.npz"]
    for name, words in {
        "b": r"type uint8, not \(N, 8, 8\)",
        "c": "no array 'masks'",
        "d": "d.npz",
    }.items():
        with pytest.raises(DatasetError, match=words):
            load_regions(folder, name, (8, 8))
    with pytest.raises(DatasetError, match=r"\(1, 8, 8\) and type bool, not \(N, 8, 9\)"):
        load_regions(folder, "a", (8, 9))
    with pytest.raises(
        DatasetError, match=r"masks of 1 of 5 training images \(the first is e.npz\)"
    ):
        check_regions(folder, list("abcde"))
