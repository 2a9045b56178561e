"""Exports are read back as their users do: Pillow, pycocotools, numpy.load, an ONNX runtime."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from answer import wsss
from made_run import make_dataset, make_run
from PIL import Image

from wsss.data import labelmap
from wsss.data.images import load_image, load_mask
from wsss.data.index import Index, load_index, save_index
from wsss.data.normalisation import Normalisation
from wsss.errors import ConfigError
from wsss.export.cams import cams
from wsss.export.labels import coco, voc_tree
from wsss.inference.trained import normalisation
from wsss.nets.deeplab import build_deeplab
from wsss.runs.run import Run
from wsss.settings import Params
from wsss.settings.resolve import validate_params
from wsss.storage import checkpoint
from wsss.storage.archive import Reader
from wsss.storage.cam_archive import CamReader
from wsss.storage.files import checksum
from wsss.training import session


@pytest.fixture
def run(squares: Index, work: Path) -> Run:
    """Return a run with all artifacts."""
    made = Run(Params(), "shapes", "cam", "common", 0)
    make_run(made, make_dataset(squares, "shapes", made.params, ("red", "green", "blue")))
    return made


def of(run: Run, what: str, name: str) -> np.ndarray:
    return labelmap.decode(Reader(run.path(f"{what}.zip")).read(f"{name}.png"), name)


def test_a_voc_tree_is_what_a_trainer_of_voc_reads(run: Run) -> None:
    folder = voc_tree(run)
    index = load_index(run.index)
    lists = {
        name: (folder / f"ImageSets/Segmentation/{name}.txt").read_text().split()
        for name in ("train", "val", "trainval")
    }
    assert lists["train"] == [entry.name for entry in index.split("train")]
    assert lists["val"] == [entry.name for entry in index.split("val")]
    assert lists["trainval"] == sorted(lists["train"] + lists["val"])
    assert (folder / "classes.txt").read_text().split() == ["background", "red", "green", "blue"]
    for entry in index.images:
        with Image.open(folder / f"SegmentationClass/{entry.name}.png") as picture:
            assert picture.mode == "P"
            found = np.array(picture)
        true = load_mask(entry.mask or "")
        assert (found == (true if entry.split == "val" else of(run, "pseudo", entry.name))).all()
        with Image.open(folder / f"JPEGImages/{entry.name}.jpg") as picture:
            assert (picture.format, picture.size) == ("JPEG", entry.size[::-1])
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_jpeg_keeps_its_bytes_and_a_turned_one_is_set_upright(run: Run, tmp_path: Path) -> None:
    index = load_index(run.index)
    first, second, *others = index.split("train")
    plain, turned = Path("plain.jpg"), Path("turned.jpg")
    picture = Image.fromarray(load_image(first.path))
    picture.save(plain, quality=80)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(turned, exif=exif)
    images = [
        replace(entry, path=str(path), size=size, checksum=checksum(path.read_bytes()))
        for entry, path, size in (
            (first, plain, first.size),
            (second, turned, first.size[::-1]),
        )
    ]
    save_index(replace(index, images=(*images, *others)), run.index)
    folder = voc_tree(run, "pseudo", tmp_path / "tree") / "JPEGImages"
    assert (folder / f"{first.name}.jpg").read_bytes() == plain.read_bytes()
    with Image.open(folder / f"{second.name}.jpg") as upright:
        assert upright.size == picture.size[::-1]
        assert upright.getexif().get(0x0112, 1) == 1


def test_predictions_alone_have_no_training_images(run: Run) -> None:
    folder = voc_tree(run, "masks")
    assert (folder / "ImageSets/Segmentation/train.txt").read_text() == ""
    assert len(list((folder / "JPEGImages").iterdir())) == 6


def test_nothing_is_written_over_and_nothing_unknown_is_exported(run: Run) -> None:
    voc_tree(run, "masks")
    with pytest.raises(ConfigError, match=r"exists\. Delete it, or name another folder"):
        voc_tree(run, "masks")
    for export in (voc_tree, coco, cams):
        with pytest.raises(ConfigError, match="'walk' is not one of"):
            export(run, "walk")


@pytest.mark.parametrize("what", ["pseudo", "masks"])
def test_pycocotools_reads_every_mask(
    run: Run, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = pytest.importorskip("pycocotools.coco")
    found = reader.COCO(str(coco(run, what)))
    assert [each["name"] for each in found.loadCats([1, 2, 3])] == ["red", "green", "blue"]
    made = {name.removesuffix(".png") for name in Reader(run.path(f"{what}.zip")).names()}
    for image in found.dataset["images"]:
        name = image["file_name"].removesuffix(".png")
        expected = (
            of(run, what, name)
            if name in made
            else load_mask(
                next(e.mask for e in load_index(run.index).images if e.name == name) or ""
            )
        )
        labels = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in found.loadAnns(found.getAnnIds(image["id"])):
            mask = found.annToMask(annotation).astype(bool)
            assert mask.sum() == annotation["area"]
            labels[mask] = annotation["category_id"]
        assert (labels == np.where(expected == 255, 0, expected)).all()


def test_psa_s_code_finds_a_map_for_each_class(run: Run) -> None:
    folder = cams(run)
    reader = CamReader(run.path("cam.zip"))
    assert sorted(path.stem for path in folder.iterdir()) == sorted(reader)
    for name in reader:
        found = np.load(folder / f"{name}.npy", allow_pickle=True).item()
        cam = reader[name]
        assert list(found) == cam.labels.tolist()
        for own, full in zip(found.values(), cam.full(), strict=True):
            assert own.dtype == np.float32
            assert (own == full).all()


def test_irn_s_code_finds_keys_and_maps_at_both_sizes(run: Run) -> None:
    folder = cams(run, "irn", Path("irn"))
    cam = CamReader(run.path("cam.zip"))["train001"]
    found = np.load(folder / "train001.npy", allow_pickle=True).item()
    keys = np.pad(found["keys"] + 1, (1, 0), mode="constant")  # as IRNet does
    assert keys.tolist() == [0, *(cam.labels + 1)]
    assert isinstance(found["cam"], torch.Tensor)
    assert (found["cam"].numpy() == cam.cam.astype(np.float32)).all()
    assert found["high_res"].shape == (len(cam.labels), *cam.size)


@pytest.mark.parametrize("what", ["segmentation", "seed"])
def test_the_scores_of_every_image_are_those_of_its_pixels(run: Run, what: str) -> None:
    answer = wsss("export", "scores", str(run), "--what", what, "--out", "scores.csv")
    assert (answer.code, answer.out) == (0, "scores.csv\n")
    with Path("scores.csv").open() as file:
        lines = list(csv.DictReader(file))
    index = load_index(run.index)
    split = "val" if what == "segmentation" else "train"
    assert {line["image"] for line in lines} < {entry.name for entry in index.split("train", "val")}
    assert len(lines) == len(index.scored(split, run.held_out(what)))
    for line in lines if what == "segmentation" else ():
        entry = next(entry for entry in index.images if entry.name == line["image"])
        truth, labels = load_mask(str(entry.mask)), of(run, "masks", entry.name)
        ious = {}
        for number, name in enumerate(("background", "red", "green", "blue")):
            either = ((truth == number) | (labels == number)).sum()
            shared = ((truth == number) & (labels == number)).sum()
            ious[name] = shared / either if either else None
        assert {name: float(line[name]) if line[name] else None for name in ious} == pytest.approx(
            ious, abs=1e-6
        )
        assert float(line["miou"]) == pytest.approx(
            np.mean([iou for iou in ious.values() if iou is not None]), abs=1e-6
        )
    wsss("export", "scores", str(run), "--what", "boxes").refuses(
        "'boxes' is not one of seed, walk"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "sizes"),
    [({}, [(48, 64), (131, 77)]), ({"head": "deeplab_v2", "rates": (1, 2), "msc": (0.5,)}, [(80, 80)])],
)  # fmt: skip
def test_the_onnx_network_sees_what_ours_sees(
    run: Run, changes: dict[str, Any], sizes: list[tuple[int, int]]
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    export = pytest.importorskip("wsss.export.onnx")
    pytest.importorskip("onnxscript")
    index = load_index(run.index)
    own = validate_params({"segmenter": {**changes, "augment": {"crop_px": 80}}})
    run = Run(own, "shapes", "cam", "common", 0)
    torch.manual_seed(0)
    net = build_deeplab(run.settings.segmenter, len(index.classes)).eval()
    path = run.path("segmenter.safetensors")
    checkpoint.save(path, net.state_dict(), session.header(run, "segmenter", index))
    served = runtime.InferenceSession(export.onnx(run), providers=["CPUExecutionProvider"])
    meta = served.get_modelmeta().custom_metadata_map
    assert json.loads(meta["classes"]) == ["background", "red", "green", "blue"]
    assert "RGB, 0 to 255" in meta["input"]
    for size in sizes:
        image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
        (found,) = served.run(None, {"image": image.transpose(2, 0, 1)[None].astype(np.float32)})
        normalise: Normalisation = normalisation(net)
        with torch.inference_mode():
            logits = net(torch.from_numpy(normalise(image))[None])
            logits = torch.nn.functional.interpolate(logits, size, mode="bilinear")
        # The two runtimes sum in other orders.
        np.testing.assert_allclose(found, logits.numpy(), atol=1e-4, rtol=1e-4)
