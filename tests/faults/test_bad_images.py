"""Images of every kind and damage: used as meant, or named in one line, by whatever meets them."""

import os
from pathlib import Path

import numpy as np
import pytest
from answer import Answer, program, wsss
from bad_images import LOCKED, ODD, REFUSED, USED, Picture
from PIL import Image
from pond import RUN, rename_victim

from wsss.data.images import load_image


def ask(path: Path) -> dict[str, Answer]:
    """Return what the commands that read images say."""
    return {
        "check": wsss("data", "check", "ponds"),
        "prepare": wsss("data", "prepare", "ponds"),
        "predict": wsss("predict", RUN, "--out", "out", "--", str(path)),
    }


def try_out(case: Picture, folder: Path) -> Path:
    """Put the picture into the pond and compare all answers with what is expected."""
    path = rename_victim(folder, case.file)
    case.make(path)
    for command, answer in ask(path).items():
        if command not in case.by or not case.said:
            answer.accepts()
            continue
        if command == "predict" and not path.is_file():
            answer.refuses(str(path))
            continue
        answer.refuses(case.said)
        assert path.name in answer.said
    return path


@pytest.mark.parametrize("case", [*USED, *ODD], ids=lambda case: case.name)
def test_an_image_that_can_be_used_is_used_as_meant(
    case: Picture, ponds: Path, tried: None
) -> None:
    path = try_out(case, ponds)
    with Image.open(f"out/masks/{path.stem}.png") as mask:
        assert mask.size[::-1] == case.size
    if case.colour is not None:
        assert np.abs(load_image(path).mean((0, 1)) - case.colour).max() <= 2


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_an_image_that_cannot_be_used_is_named_in_one_line(
    case: Picture, ponds: Path, tried: None
) -> None:
    try_out(case, ponds)
    assert not Path("out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_image_without_permission_is_named(ponds: Path, tried: None) -> None:
    try_out(LOCKED, ponds)


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"\xff\xfe.png"])
def test_a_name_that_is_not_utf8_is_used(name: bytes, ponds: Path, tried: None) -> None:
    path = os.fsdecode(os.path.join(os.fsencode(ponds), b"own", name))  # noqa: PTH118  # bytes
    Path(path).parent.mkdir()
    Path(path).write_bytes((ponds / "photos/p0.png").read_bytes())
    wsss("predict", RUN, "own", "--out", "out").accepts()
    assert Path("out/masks", Path(path).name).is_file()


def test_a_pipe_in_a_folder_of_images_holds_nobody_up(ponds: Path, tried: None) -> None:
    os.mkfifo(ponds / "photos/a.png")
    wsss("predict", RUN, "photos").refuses(
        "photos/a.png cannot be read (it is a pipe or a device)."
    )


def test_the_program_itself_ends_with_exit_code_two(ponds: Path, tried: None) -> None:
    (ponds / "odd.jpg").write_bytes(b"<!DOCTYPE html>")
    program("predict", RUN, "odd.jpg").refuses("odd.jpg is not an image but a web page")
    assert not Path("out").exists()
