"""Laws of composed photographs, on generated stamps and, where installed, on the real ones."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss.data.images import load_image, load_mask
from wsss.datasets.drawn import stamps
from wsss.errors import DatasetError
from wsss.settings import StampsParams

CLASSES = len(stamps.CLASSES)


def small(root: Path, backgrounds: Path | str = "textures") -> StampsParams:
    counts = {"train": 2 * CLASSES, "val": CLASSES, "size_px": 96}
    return StampsParams(root=str(root), backgrounds=str(backgrounds), **counts)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Write photographs of one colour each, and what is not to be read, and return their folder."""
    root = tmp_path / "scenes"
    (root / "Nature").mkdir(parents=True)
    for number in range(10):
        colour = (20 * number, 10 * number, 30)
        Image.new("RGB", (90, 60), colour).save(root / f"Nature/scene{number}.jpg", quality=95)
    Image.new("RGB", (90, 60), "red").save(root / "Nature/flower-bed.jpg")
    Image.new("RGB", (90, 60), "red").save(root / "Nature/drawn.gif")
    return root


@pytest.fixture
def real() -> Path:
    root = Path(os.environ.get("WSSS_STAMPS", StampsParams().root))
    if not root.is_dir():
        pytest.skip(f"{root} is absent: install tuxpaint-stamps-default or set WSSS_STAMPS")
    return root


@pytest.fixture
def real_scenes() -> Path:
    root = Path(os.environ.get("WSSS_SCENES", StampsParams().backgrounds))
    if not root.is_dir():
        pytest.skip(f"{root} is absent: install scratch or set WSSS_SCENES")
    return root


def check(params: StampsParams, target: Path) -> None:
    index = stamps.draw(params, "stamps", target)
    for entry in index.images:
        mask = load_mask(entry.mask or "")
        assert load_image(entry.path).shape == (96, 96, 3)
        assert mask.shape == entry.size == (96, 96)
        assert [label + 1 for label in index.numbers(entry.labels)] == np.unique(
            mask[mask > 0]
        ).tolist()
        assert 1 <= len(entry.labels) <= 3
    for split in ("train", "val"):
        assert {label for e in index.split(split) for label in e.labels} == set(stamps.CLASSES)


def test_labels_are_the_classes_of_the_mask(stamp_folder: Path, tmp_path: Path) -> None:
    check(small(stamp_folder), tmp_path / "images.zip")


def test_labels_are_the_classes_of_the_mask_of_real_stamps(real: Path, tmp_path: Path) -> None:
    check(small(real), tmp_path / "images.zip")


def test_labels_are_the_classes_of_the_mask_before_real_scenes(
    real: Path, real_scenes: Path, tmp_path: Path
) -> None:
    check(small(real, real_scenes), tmp_path / "images.zip")


def test_backgrounds_are_photographs_and_others_in_validation(
    stamp_folder: Path, scenes: Path
) -> None:
    compose = stamps.composer(small(stamp_folder, scenes))
    colours: dict[str, set[int]] = {"train": set(), "val": set()}
    for split, seen in colours.items():
        for number in range(40):
            picture = compose(split, number)
            behind = picture.image[picture.mask == 0]
            seen.add(round(float(np.median(behind[:, 0])) / 20))
    assert colours["train"] | colours["val"] == set(range(10))
    assert not colours["train"] & colours["val"]


def test_edges_before_a_photograph_are_soft_and_those_before_a_texture_are_not(
    stamp_folder: Path, scenes: Path
) -> None:
    soft = stamps.composer(small(stamp_folder, scenes))("train", 0)
    stamp = soft.image[soft.mask > 0][:, 2].astype(int)  # 200 but at the edges
    assert 0.02 < (stamp < 190).mean() < 0.4
    alpha = Image.new("L", (9, 9), 0)
    alpha.paste(255, (2, 2, 7, 7))
    faded = np.asarray(stamps._faded(alpha, 0.8))
    assert (faded <= np.asarray(alpha)).all()
    assert faded[4, 4] > faded[4, 3] > faded[4, 2] > 0
    assert stamps._faded(alpha, 0.0) is alpha


def test_a_folder_without_photographs_says_what_to_install(
    stamp_folder: Path, tmp_path: Path
) -> None:
    params = small(stamp_folder, tmp_path / "none")
    with pytest.raises(DatasetError) as caught:
        stamps.draw(params, "stamps", tmp_path / "images.zip")
    for words in ("apt-get install scratch", "data.stamps.backgrounds", "textures"):
        assert words in str(caught.value)


def test_a_damaged_background_is_named(stamp_folder: Path, scenes: Path) -> None:
    for path in scenes.rglob("scene*.jpg"):
        path.write_bytes(b"nothing")
    compose = stamps.composer(small(stamp_folder, scenes))
    with pytest.raises(DatasetError, match=r"The background .*scene\d\.jpg is damaged"):
        compose("train", 0)


def test_the_seed_decides_the_bytes(stamp_folder: Path, tmp_path: Path) -> None:
    params, contents = small(stamp_folder), []
    for number, seed in enumerate((0, 0, 1)):
        target = tmp_path / f"{number}" / "images.zip"
        stamps.draw(params.model_copy(update={"seed": seed}), "stamps", target)
        contents.append(target.read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_training_and_validation_photographs_are_disjoint(stamp_folder: Path) -> None:
    found = stamps.photographs(stamp_folder)
    for name in stamps.CLASSES:
        assert not set(found["train"][name]) & set(found["val"][name])
        assert len(found["train"][name]) == 2
        assert len(found["val"][name]) == 1


def test_real_photographs_are_disjoint_by_their_bytes(real: Path) -> None:
    found = stamps.photographs(real)
    contents = {
        split: {file.read_bytes() for files in found[split].values() for file in files}
        for split in found
    }
    assert not contents["train"] & contents["val"]
    assert all(len(files) >= 4 for files in found["train"].values())
    assert all(len(files) >= 2 for files in found["val"].values())


def test_cartoons_and_drawings_are_left_out(stamp_folder: Path) -> None:
    found = stamps.photographs(stamp_folder)
    stems = {f.stem for split in found.values() for files in split.values() for f in files}
    assert not stems & {"drawn", "bee"}


def test_opaque_pixels_and_no_others_are_labelled(stamp_folder: Path) -> None:
    read = stamps.composer(small(stamp_folder))
    picture = read("train", 0)
    background = picture.image[picture.mask == 0].astype(float)
    # The photographs have blue 200 and little green or red, which pale textures never come near.
    shares = [
        (picture.image[picture.mask == label][:, 2] > 150).mean()
        for label in np.unique(picture.mask)[1:]
    ]
    assert min(shares) > 0.9
    assert background.std() > 1


def test_an_absent_folder_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        stamps.draw(StampsParams(root=str(tmp_path / "none")), "stamps", tmp_path / "images.zip")
    assert "apt-get install tuxpaint-stamps-default" in str(caught.value)
    assert "data.stamps.root" in str(caught.value)
    assert not (tmp_path / "images.zip").exists()


def test_a_damaged_stamp_is_named(stamp_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(DatasetError, match=r"The stamp .*x\.png is damaged"):
        stamps._read(path, 64)
    Image.new("RGBA", (8, 8), (1, 2, 3, 0)).save(path)
    with pytest.raises(DatasetError, match=r"The stamp .*x\.png has no opaque pixel"):
        stamps._read(path, 64)
