"""CUB: its four tables, its boxes, and what may be wrong with them."""

from collections.abc import Callable
from pathlib import Path

import made_datasets
import pytest

from wsss.data.index import load_index, save_index
from wsss.datasets import cub
from wsss.errors import DatasetError
from wsss.scores.boxes import in_frame
from wsss.settings import CubParams


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return made_datasets.cub(tmp_path / "CUB_200_2011")


def test_the_tables_become_an_index_with_boxes(root: Path, tmp_path: Path) -> None:
    index = cub.read(CubParams(root=str(root)), "cub")
    assert index.classes == ("Black_footed_Albatross", "Laysan_Albatross")
    assert [(e.name, e.split, e.labels, e.boxes) for e in index.split("val")] == [
        ("Black_Footed_Albatross_0046_18", "val", ("Black_footed_Albatross",),
         ((6.0, 2.7, 12.5, 10.4),)),
        ("Laysan_Albatross_0003_1033", "val", ("Laysan_Albatross",), ((1.0, 2.0, 3.0, 4.0),)),
    ]  # fmt: skip
    assert len(index.split("train")) == 2
    save_index(index, tmp_path / "index.json")
    again = load_index(tmp_path / "index.json")
    assert sorted(again.images, key=str) == sorted(index.images, key=str)


def test_boxes_of_a_resized_image_are_whole_and_inside() -> None:
    assert in_frame((0.9, 0.9, 50.9, 99.0), (100, 200), 50) == (0, 0, 12, 49)
    assert in_frame((100, 50, 100, 50), (100, 200), 224) == (112, 112, 223, 223)


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / f"{name}.txt"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return change


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: (r / "images.txt").unlink(), "images.txt cannot be read. Set data.cub.root"),
        (edit("bounding_boxes", "4 1.0 2.0 3.0 4.0\n", ""), "do not name the same images (one has 4)"),
        (edit("image_class_labels", "4 2", "4 1"), "does not give each folder of images.txt one label"),
        (edit("image_class_labels", "4 2", "4 two"), "does not give each folder"),
        (edit("train_test_split", "2 1", "2 7"), "has the value '7', not 0 or 1"),
        (edit("bounding_boxes", "2 0.0 0.0", "2 0.0"), "has the values '0.0 24.0 24.0', not x, y"),
        (edit("images", "Laysan_Albatross_0003", "none"), "none_1033.jpg is missing"),
    ],
)  # fmt: skip
def test_broken_tables_are_refused_in_one_line(
    root: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(root)
    with pytest.raises(DatasetError) as caught:
        cub.read(CubParams(root=str(root)), "cub")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
