"""The command as a user meets it: help, one-line errors, predictions on own images."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import made_networks
import numpy as np
import pytest
from answer import REFUSED, wsss
from PIL import Image

from wsss.data import labelmap
from wsss.data.index import Index
from wsss.machine.doctor import report
from wsss.runs.run import Run

RUN = "shapes/cam/common/s0"


@pytest.fixture
def trained(squares: Index, work: Path) -> Run:
    """Return a run whose networks have their first, random weights."""
    return made_networks.make_networks(squares, "cam", ("classifier", "segmenter"))


def test_help_names_every_command_without_loading_torch() -> None:
    listed = wsss("--help").out
    for command in ("data", "train", "cam", "confident", "affinity", "walk", "pseudo", "segmenter"):
        assert command in listed
    code = "import sys, wsss.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cam", "shapes/cam"], "'shapes/cam' is not a run"),
        (["cam", "shapes/cma/common/s0"], "There is no method 'cma'"),
        (["params", "--run", "shape/cam/common/s0"], "'shape' is not one of shapes, stamps, voc12"),
        (["cam", RUN, "--shard", "3-of-2"], "is not k-of-n"),
        (["train", RUN, "backbone"], "cam has no network 'backbone'; its chain is classifier"),
        (["evaluate", RUN, "seed"], "work/shapes/index/train.json is missing"),
        (["train", RUN, "classifier"], "work/shapes/index/train.json is missing"),
        (["evaluate", RUN, "masks"], "has no 'masks' to evaluate. It has seed, walk, pseudo, seg"),
        (["params", "--params", "absent.yaml"], "absent.yaml does not exist"),
        (["params", "--why", "walk.beta"], "--why walk.beta needs a run"),
        (["params", "--run", RUN, "--why", "walk.bet"], "did you mean 'walk.beta'?"),
        (["data", "check", "voc12"], "voc12"),
        (["predict", RUN, "absent.jpg"], "absent.jpg does not exist"),
        (["table"], "is missing"),
    ],
)
def test_mistakes_are_answered_in_one_line_with_exit_code_two(
    work: Path, arguments: list[str], message: str
) -> None:
    (work / "params.yaml").write_text("")
    wsss(*arguments).refuses(message)


def test_a_problem_names_the_file_that_it_is_in(work: Path) -> None:
    (work / "params.yaml").write_text("walk: {bet: 3.0}\n")
    (work / "mine.yaml").write_text("segmenter: {train: {learning_rate: 1.0, batch: -1}}\n")
    said = wsss("params", "--params", "params.yaml", "--params", "mine.yaml").err
    assert "unknown key walk.bet; did you mean 'beta'? (in params.yaml)" in said
    assert "unknown key segmenter.train.learning_rate; did you mean 'lr'? (in mine.yaml)" in said
    assert re.search(r"segmenter.train.batch: [^;]*\(in mine.yaml\)", said)
    assert "(in params.yaml)" not in wsss("params").err


def test_the_layers_of_a_key_are_listed(work: Path) -> None:
    (work / "params.yaml").write_text("walk: {beta: 3.0}\n")
    (work / "mine.yaml").write_text("walk: {beta: 4.0}\n")
    files = ("--params", "params.yaml", "--params", "mine.yaml")
    lines = wsss("params", "--run", RUN, "--why", "walk.beta", *files).out.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["8.0", "default", "(wsss/settings)"],
        ["3.0", "params.yaml"],
        ["4.0", "mine.yaml"],
    ]


def test_a_setting_that_gives_way_is_named_beside_the_settings_of_a_run(work: Path) -> None:
    (work / "params.yaml").write_text("cam: {normalise: max}\n")
    done = wsss("params", "--run", "shapes/mctformer/common/s0")
    assert json.loads(done.out)["cam"]["normalise"] == "range"
    assert "cam.normalise (params.yaml) in shapes/mctformer/common" in done.err


def test_debug_shows_where_an_error_came_from(work: Path) -> None:
    answer = wsss("--debug", "params", "--params", "absent.yaml")
    assert answer.code == REFUSED
    assert "Traceback" in answer.err


def test_own_images_get_masks_overlays_and_cams(trained: Run, work: Path, squares: Index) -> None:
    folder = work / "my images"
    folder.mkdir()
    Image.open(squares.images[0].path).save(folder / "a b.png")
    Image.open(squares.images[1].path).convert("L").save(folder / "grey.jpg")
    wsss("predict", str(trained), str(folder), "--out", "out").accepts()
    for name, entry in (("a b", squares.images[0]), ("grey", squares.images[1])):
        labels = labelmap.decode((work / f"out/masks/{name}.png").read_bytes(), name)
        assert labels.shape == entry.size
        assert labels.max() <= len(squares.classes)
        assert np.asarray(Image.open(work / f"out/overlays/{name}.png")).shape == (*entry.size, 3)
    with (work / "out/classes.csv").open() as file:
        found = {(line["image"], line["class"]): line["share"] for line in csv.DictReader(file)}
    for path in ("a b.png", "grey.jpg"):
        stem = path.partition(".")[0]
        labels = labelmap.decode((work / f"out/masks/{stem}.png").read_bytes(), path)
        shares = {c: (labels == k).mean() for k, c in enumerate(squares.classes, 1)}
        own = {c: float(v) for (image, c), v in found.items() if image == f"{folder}/{path}"}
        assert own == {c: pytest.approx(v, abs=1e-6) for c, v in shares.items() if v}
    for panel in (work / "out/cams").glob("*.png"):
        assert panel.stem.rsplit("-", 1)[1] in squares.classes


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n cut short"])
def test_an_image_that_cannot_be_read_is_named(trained: Run, work: Path, content: bytes) -> None:
    (work / "odd.png").write_bytes(content)
    wsss("predict", str(trained), "odd.png").refuses("odd.png")


def test_two_images_of_one_name_are_not_mixed_up(trained: Run, work: Path, squares: Index) -> None:
    for folder in ("a", "b"):
        (work / folder).mkdir()
        Image.open(squares.images[0].path).save(work / folder / "x.png")
    wsss("predict", str(trained), "a", "b").refuses("would both be written as x.png")


def test_a_damaged_network_is_named_and_kept(trained: Run, work: Path) -> None:
    path = trained.path("segmenter.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    Image.new("RGB", (32, 32)).save("x.png")
    answer = wsss("predict", str(trained), "x.png")
    answer.refuses("segmenter.safetensors is not a whole network")
    assert path.stat().st_size == 1000


def test_another_methods_network_is_refused_with_what_differs(trained: Run, work: Path) -> None:
    trained.path("classifier.safetensors").replace(trained.path("segmenter.safetensors"))
    Image.new("RGB", (32, 32)).save("x.png")
    answer = wsss("predict", str(trained), "x.png")
    answer.refuses("is not a file of this network")
    assert "missing (head." in answer.err


def test_the_doctor_finds_this_machine_fit() -> None:
    lines, healthy = report()
    assert healthy, lines
    assert all(line.split()[0] in ("ok", "missing") for line in lines)
    assert {"torch", "torchvision", "crf", "slurm", "dvc"} <= {line.split()[1] for line in lines}
