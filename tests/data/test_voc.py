"""The VOC devkit: splits, labels from annotations, masks, and what may be broken."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from wsss.data import voc
from wsss.errors import DatasetError
from wsss.schema import VocParams


def read(root: Path) -> dict[str, tuple[str, tuple[str, ...], str | None]]:
    index = voc.read(VocParams(root=str(root)), "voc12")
    assert index.classes == voc.CLASSES
    return {
        e.name: (e.split, e.labels, e.mask and str(Path(e.mask).relative_to(root).parent))
        for e in index.images
    }


def test_the_twenty_classes_are_in_alphabetical_order() -> None:
    assert len(voc.CLASSES) == 20
    assert list(voc.CLASSES) == sorted(voc.CLASSES)


def test_splits_labels_and_masks_are_those_of_the_devkit_and_of_sbd(devkit: Path) -> None:
    assert read(devkit) == {
        "2007_000001": ("train", ("cat", "person"), "SegmentationClass"),
        "2007_000002": ("train", ("dog",), "SegmentationClass"),
        "2007_000003": ("val", ("cat",), "SegmentationClass"),
        "2008_000004": ("aug", ("boat",), "SegmentationClassAug"),
        "2008_000005": ("aug", ("tvmonitor",), "SegmentationClassAug"),
    }


def test_without_sbd_there_is_no_augmented_set(devkit: Path) -> None:
    shutil.rmtree(devkit / "SegmentationClassAug")
    assert {split for split, *_ in read(devkit).values()} == {"train", "val"}


def test_without_sbd_masks_a_list_gives_the_augmented_set(devkit: Path) -> None:
    shutil.rmtree(devkit / "SegmentationClassAug")
    listed = devkit / "ImageSets/Segmentation/train_aug.txt"
    listed.write_text("2007_000001\n2007_000003\n2008_000004\n")  # train and val do not move
    found = read(devkit)
    assert found["2008_000004"] == ("aug", ("boat",), None)
    assert found["2007_000001"][0] == "train"
    assert found["2007_000003"][0] == "val"


def unlink(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def write(name: str, text: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / name).write_text(text)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shutil.rmtree, "ImageSets/Segmentation/train.txt cannot be read. Set data.voc12.root"),
        (unlink("ImageSets/Segmentation/val.txt"), "val.txt cannot be read. Set data.voc12.root"),
        (write("ImageSets/Segmentation/val.txt", "\n"), "val.txt names no image"),
        (unlink("JPEGImages/2007_000002.jpg"), "JPEGImages/2007_000002.jpg is missing"),
        (write("JPEGImages/2007_000002.jpg", "text"), "2007_000002.jpg is not an image"),
        (unlink("Annotations/2007_000003.xml"), "2007_000003.xml is missing, and labels come"),
        (write("Annotations/2007_000003.xml", "<a>"), "2007_000003.xml is not valid XML"),
    ],
)
def test_a_devkit_that_is_not_whole_is_refused_in_one_line(
    devkit: Path, change: Callable[[Path], None], message: str
) -> None:
    change(devkit)
    with pytest.raises(DatasetError) as caught:
        read(devkit)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_missing_files_are_found_at_once(devkit: Path) -> None:
    for name in ("2007_000001", "2008_000004"):
        (devkit / "JPEGImages" / f"{name}.jpg").unlink()
    _, problems = voc.scan(VocParams(root=str(devkit)), "voc12")
    assert len(problems) == 2
    with pytest.raises(DatasetError, match=r"\(1 more: `wsss data check voc12` names all\)"):
        read(devkit)
