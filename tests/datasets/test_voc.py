"""The VOC devkit: splits, labels from annotations, masks, and what may be broken."""

import shutil
from collections.abc import Callable
from pathlib import Path

import made_datasets
import numpy as np
import pytest
from made_data import mask
from scipy.io import savemat

from wsss.data.images import load_mask
from wsss.datasets import voc
from wsss.errors import DatasetError
from wsss.settings import VocParams
from wsss.storage.archive import Reader


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


TRAIN = "ImageSets/Segmentation/train.txt"
PAGE = "<!DOCTYPE html>\n<html><title>Sign in</title></html>"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4665a5ea\nsize 12345\n"


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
        (write("Annotations/2007_000003.xml", PAGE), "2007_000003.xml is a web page"),
        (write("JPEGImages/2007_000002.jpg", POINTER), "is not an image but a pointer of Git LFS, in "
         "place of a file of 12,345 bytes. Run `git lfs pull`"),
        (write(TRAIN, PAGE), "train.txt is a web page: the link has expired"),
        (write(TRAIN, "404: Not Found"), "train.txt is not a list of image names (it has '404:')"),
        (write(TRAIN, "/JPEGImages/2007_000001.jpg /SegmentationClassAug/2007_000001.png"),
         "train.txt lists paths, such as /JPEGImages/2007_000001.jpg, as psa's lists do, and not names. "
         "Write the names alone, such as 2007_000001"),
    ],
)  # fmt: skip
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
    (devkit / "Annotations/2007_000003.xml").unlink()
    _, problems = voc.scan(VocParams(root=str(devkit)), "voc12")
    assert len(problems) == 2
    assert "2007_000001.jpg is missing" in problems[0]
    assert problems[0].endswith("The same holds for 1 more: 2008_000004.")
    with pytest.raises(DatasetError, match=r"\(1 more: `wsss data check voc12` names all\)"):
        read(devkit)


def own(root: Path, **settings: str) -> VocParams:
    return VocParams(root=str(root), **settings)


@pytest.fixture
def boundaries(devkit: Path) -> Path:
    """Write SBD and take the folder of augmented masks away."""
    shutil.rmtree(devkit / "SegmentationClassAug")
    return made_datasets.sbd(devkit.parent / "benchmark_RELEASE/dataset")


def test_the_augmented_set_is_sbd_without_train_and_val(devkit: Path, boundaries: Path) -> None:
    index, problems = voc.scan(own(devkit, sbd=str(boundaries)), "voc12")
    assert problems == []
    assert [entry.name for entry in index.split("aug")] == ["2008_000004", "2008_000005"]
    assert [entry.name for entry in index.split("val")] == ["2007_000003"]
    assert [entry.mask for entry in index.split("aug")] == [None, None]  # not converted yet


def test_masks_of_sbd_become_indexed_pngs_and_the_devkits_keep_their_void(
    devkit: Path, boundaries: Path
) -> None:
    archive = devkit / "masks.zip"
    index = voc.convert(own(devkit, sbd=str(boundaries)), "voc12", archive)
    masks = {entry.name: load_mask(entry.mask or "") for entry in index.images}
    assert np.unique(masks["2008_000004"]).tolist() == [0, 4]
    assert np.unique(masks["2008_000005"]).tolist() == [0, 20]
    assert 255 in masks["2007_000001"]
    assert Reader(archive).names() == ["2008_000004.png", "2008_000005.png"]
    assert b"PLTE" in Reader(archive).read("2008_000004.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "val.txt").unlink(), "val.txt cannot be read. Set data.voc12.sbd"),
        (lambda f: (f / "cls/2008_000004.mat").unlink(), "2008_000004.mat holds no GTcls.Segm"),
        (lambda f: (f / "cls/2008_000004.mat").write_bytes(b"text"), "2008_000004.mat holds no"),
        (lambda f: savemat(f / "cls/2008_000004.mat", {"GTinst": 1}), "no structure GTcls"),
        (lambda f: savemat(f / "cls/2008_000004.mat", {"GTcls": {"Segmentation": 1.5}}),
         "Segmentation is no matrix of bytes"),
        (lambda f: savemat(f / "cls/2008_000004.mat",
                               {"GTcls": {"Segmentation": np.ones((24, 9), np.uint8)}}),
         "is 9 x 24 px, its image 24 x 24"),
    ],
)  # fmt: skip
def test_broken_masks_of_sbd_leave_no_archive(
    devkit: Path, boundaries: Path, change: Callable[[Path], None], message: str
) -> None:
    change(boundaries)
    with pytest.raises(DatasetError) as caught:
        voc.convert(own(devkit, sbd=str(boundaries)), "voc12", devkit / "masks.zip")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(devkit.glob("*zip*"))


def test_images_of_the_test_list_have_neither_labels_nor_masks(devkit: Path) -> None:
    index = voc.read(own(made_datasets.voc_test(devkit)), "voc12")
    found = [(entry.name, entry.labels, entry.mask) for entry in index.split("test")]
    assert found == [(name, (), None) for name in made_datasets.TEST]
    (devkit / "JPEGImages" / f"{made_datasets.TEST[0]}.jpg").unlink()
    with pytest.raises(DatasetError, match=r"2008_000006.jpg is missing. Unpack VOC2012test.tar"):
        voc.read(own(devkit), "voc12")


def test_masks_without_void_are_refused_as_ground_truth(devkit: Path) -> None:
    for name in ("2007_000001", "2007_000002"):
        mask(devkit / "SegmentationClass" / f"{name}.png", 8)
    with pytest.raises(DatasetError, match="2 of 2 masks of the split train have no void contours"):
        voc.read(own(devkit), "voc12")
