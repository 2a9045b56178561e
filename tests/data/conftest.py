"""Tiny stand-ins for the sources of images: a VOC devkit, a folder of stamps, a table."""

from pathlib import Path

import made_datasets
import numpy as np
import pytest
from made_data import mask, picture
from PIL import Image

from wsss.data import stamps


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """Write a VOC devkit of five images, two of them from SBD, and return its root."""
    return made_datasets.voc(tmp_path / "VOC2012")


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
