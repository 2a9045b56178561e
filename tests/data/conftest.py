"""Tiny stand-ins for the sources of images: a VOC devkit, a folder of stamps, a table."""

from pathlib import Path

import numpy as np
import pytest
from made_data import mask, picture
from PIL import Image

from wsss.data import stamps

# id -> split, objects of the annotation, whether the mask is the devkit's or that of SBD
DEVKIT = {
    "2007_000001": ("train", ["cat", "person"], "devkit"),
    "2007_000002": ("train", ["dog"], "devkit"),
    "2007_000003": ("val", ["cat"], "devkit"),
    "2008_000004": ("aug", ["boat", "boat"], "sbd"),
    "2008_000005": ("aug", ["tvmonitor"], "sbd"),
}
OBJECT = (
    "<object><name>{}</name><difficult>1</difficult><truncated>1</truncated>"
    "<part><name>head</name></part><actions><walking>1</walking></actions></object>"
)


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """Write a VOC devkit of five images, two of them from SBD, and return its root."""
    root = tmp_path / "VOC2012"
    for number, (name, (_, objects, source)) in enumerate(DEVKIT.items()):
        picture(root / "JPEGImages" / f"{name}.jpg", number)
        annotation = root / "Annotations" / f"{name}.xml"
        annotation.parent.mkdir(exist_ok=True)
        content = "".join(OBJECT.format(found) for found in objects)
        annotation.write_text(f"<annotation>{content}</annotation>")
        mask(root / "SegmentationClassAug" / f"{name}.png", 8)
        if source == "devkit":
            mask(root / "SegmentationClass" / f"{name}.png", 8, 255)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split in ("train", "val"):
        names = [name for name, (where, *_) in DEVKIT.items() if where == split]
        (lists / f"{split}.txt").write_text("\n".join(names))  # one list ends without a newline
    return root


@pytest.fixture(scope="session")
def stamp_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write three one-coloured photographs with alpha for each class of stamps."""
    root = tmp_path_factory.mktemp("stamps")
    for place, (name, patterns) in enumerate(stamps.CLASSES.items()):
        folder = (root / patterns[0]).parent
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(3):
            stamp = np.zeros((60, 80, 4), np.uint8)
            stamp[10:50, 5:70] = (20 * place, 80 * number, 200, 255)
            Image.fromarray(stamp).save(folder / f"{name}{number}.png")
    (root / "animals/birds/cartoon").mkdir()
    Image.new("RGBA", (20, 20), "red").save(root / "animals/birds/cartoon/drawn.png")
    Image.new("RGBA", (20, 20), "red").save(root / "animals/insects/bee.png")
    return root


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Write a dataset of four images with a table `images.csv` and return its folder."""
    rows = ["image,labels,split,mask"]
    for number, split in enumerate(("train", "train", "val", "test")):
        picture(tmp_path / "photos" / f"p{number}.png", number)
        mask(tmp_path / "masks" / f"p{number}.png", 1, 2, 255)
        rows.append(f"photos/p{number}.png,frog; newt,{split},masks/p{number}.png")
    (tmp_path / "images.csv").write_text("\n".join(rows) + "\n")
    return tmp_path
