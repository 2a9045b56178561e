"""`wsss predict`: a user's own folders, whatever is in them, with whatever is trained."""

import csv
from pathlib import Path

import numpy as np
import pytest
from answer import wsss
from made_networks import make_networks
from PIL import Image

from wsss.data import labelmap
from wsss.data.index import Index
from wsss.runs.run import Run

BOTH = ("classifier", "segmenter")


@pytest.fixture
def trained(squares: Index, work: Path) -> Run:
    """Return a run whose networks have their first, random weights."""
    return make_networks(squares, "cam", BOTH)


@pytest.fixture
def photos(squares: Index, work: Path) -> Path:
    """Write three pictures, two of one size, into the folder photos and return it."""
    folder = work / "photos"
    folder.mkdir()
    for number, name in enumerate(("a.png", "b.jpg", "c.png")):
        Image.open(squares.images[number].path).save(folder / name)
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as lines:
        return list(csv.DictReader(lines))


def written(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))


def test_a_broken_file_is_named_and_the_others_are_written(trained: Run, photos: Path) -> None:
    (photos / "b.jpg").write_bytes((photos / "b.jpg").read_bytes()[:300])
    (photos / "d.png").write_bytes(b"<html>")
    answer = wsss("predict", str(trained), "photos", "--out", "out")
    answer.refuses(
        "2 of 4 images could not be used; the others are in out. The image photos/b.jpg is"
    )
    assert answer.err.splitlines()[-1].endswith("Also photos/d.png.")
    assert written(Path("out/masks")) == ["a.png", "c.png"]
    assert {row["image"] for row in table(Path("out/classes.csv"))} <= {
        "photos/a.png",
        "photos/c.png",
    }


def test_hidden_files_are_passed_over_and_others_named(trained: Run, photos: Path) -> None:
    (photos / "._a.png").write_bytes(b"\0\5\x16\7")  # as macOS leaves them on other disks
    (photos / "notes.txt").write_text("notes")
    Image.open(photos / "a.png").save(photos / "e.jfif", "JPEG")
    Image.open(photos / "a.png").save(photos / "f.ppm")
    answer = wsss("predict", str(trained), "photos", "--out", "out")
    answer.accepts()
    assert "Passed over, because no images: photos/notes.txt" in answer.err
    assert written(Path("out/masks")) == ["a.png", "b.png", "c.png", "e.png", "f.png"]


def test_subfolders_are_read_if_asked_for_and_keep_their_names(trained: Run, photos: Path) -> None:
    for name in ("one", "two", ".cache"):
        (photos / name).mkdir()
        (photos / name / "a.png").write_bytes((photos / "a.png").read_bytes())
    wsss("predict", str(trained), "photos", "--out", "photos/out").accepts()
    assert written(Path("photos/out/masks")) == ["a.png", "b.png", "c.png"]
    wsss("predict", str(trained), "photos", "--out", "photos/out", "--recursive").accepts()
    names = ["a.png", "b.png", "c.png", "one/a.png", "two/a.png"]
    assert written(Path("photos/out/masks")) == names
    Path("outer").mkdir()
    photos.rename("outer/photos")
    answer = wsss("predict", str(trained), "outer")
    answer.refuses("The folder outer holds no images")
    assert "Subfolders hold some, such as outer/photos/" in answer.err
    assert "add --recursive" in answer.err


def test_images_have_the_masks_that_they_have_alone(trained: Run, photos: Path) -> None:
    wsss("predict", str(trained), "photos", "--out", "out").accepts()
    for path in sorted(photos.iterdir()):
        wsss("predict", str(trained), str(path), "--out", "alone").accepts()
        masks = [
            labelmap.decode(Path(folder, "masks", f"{path.stem}.png").read_bytes(), "")
            for folder in ("out", "alone")
        ]
        assert np.mean(masks[0] == masks[1]) > 0.999  # sums in another order round differently
    assert written(Path("out/cams")) == written(Path("alone/cams"))


def test_a_classifier_alone_suffices_for_cams(squares: Index, photos: Path) -> None:
    run = make_networks(squares, "cam", ["classifier"], stages=())
    answer = wsss("predict", str(run), "photos", "--out", "out", "--labels", "red,blue")
    answer.accepts()
    assert "has no trained segmenter: CAMs alone are written" in answer.err
    assert written(Path("out")) == [
        f"cams/{name}-{label}.png" for name in "abc" for label in ("blue", "red")
    ]
    rows = table(Path("out/classes.csv"))
    assert [(row["image"], row["class"]) for row in rows[:2]] == [
        ("photos/a.png", "red"),
        ("photos/a.png", "blue"),
    ]
    assert all(0 <= float(row["probability"]) <= 1 for row in rows)
    wsss("predict", str(run), "photos", "--with", "segmenter").refuses("segmenter.safetensors is")


def test_known_labels_come_from_a_table_and_choose_the_cams(trained: Run, photos: Path) -> None:
    rows = ["image,labels", "photos/a.png,green", "b.jpg,red; blue", "elsewhere/c.png,"]
    Path("labels.csv").write_text("\n".join(rows) + "\n")
    wsss("predict", str(trained), "photos", "--out", "out", "--labels", "labels.csv").accepts()
    assert written(Path("out/cams")) == ["a-green.png", "b-blue.png", "b-red.png"]
    assert written(Path("out/masks")) == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "gren"], "does not know the class 'gren'. Did you mean 'green'?"),
        (["--labels", "none.csv"], "none.csv cannot be read as a CSV table"),
        (["--labels", "short.csv"], "short.csv has no row for photos/b.jpg"),
        (["--labels", "params.yaml"], "params.yaml needs the columns image and labels"),
        (["--with", "decoder"], "cam has no decoder of its own: use --with segmenter"),
        (["--with", "decoders"], "--with 'decoders' is not one of segmenter, decoder, cams"),
    ],
)
def test_what_cannot_be_is_answered_in_one_line(
    trained: Run, photos: Path, options: list[str], message: str
) -> None:
    Path("short.csv").write_text("image,labels\na.png,red\n")
    wsss("predict", str(trained), "photos", "--out", "out", *options).refuses(message)
    assert not Path("out").exists()


@pytest.mark.parametrize("method", ["toco", "weclip", "excel"])
def test_a_methods_own_decoder_predicts_masks(squares: Index, photos: Path, method: str) -> None:
    run = make_networks(squares, method, ["classifier"], stages=())
    answer = wsss("predict", str(run), "photos", "--out", "out", "--with", "decoder")
    answer.accepts()
    assert written(Path("out/masks")) == ["a.png", "b.png", "c.png"]
    labels = labelmap.decode(Path("out/masks/a.png").read_bytes(), "a")
    assert labels.shape == squares.images[0].size
    assert labels.max() <= len(squares.classes)
    assert {"share"} < set(table(Path("out/classes.csv"))[0])


@pytest.mark.parametrize(("method", "network"), [("clip_es", "clip"), ("excel", "classifier")])
def test_known_labels_guide_the_cams_of_a_frozen_clip(
    squares: Index, photos: Path, method: str, network: str
) -> None:
    run = make_networks(squares, method, [network], stages=())
    options = ("--with", "cams", "--labels", "red,blue")
    wsss("predict", str(run), "photos", "--out", "out", *options).accepts()
    assert written(Path("out")) == [
        f"cams/{name}-{label}.png" for name in "abc" for label in ("blue", "red")
    ]
