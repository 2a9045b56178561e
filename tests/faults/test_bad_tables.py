"""Masks, tables and indexes that are wrong: named in one line, and what was there before stays."""

from pathlib import Path

import pytest
from answer import program, wsss
from bad_tables import BAD_INDEXES, BAD_MASKS, BAD_TABLES, CHANGED, HEAD, INDEX, TABLE, Bad
from made_data import mask
from pond import RUN, SIZE, row

from wsss.storage.files import read_json, write_json

MADE = "work/**/*.*"


def made(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.glob(MADE) if path.is_file()}


def name_of(case: Bad) -> str:
    return case.name


@pytest.mark.parametrize("case", BAD_MASKS, ids=name_of)
def test_a_mask_that_fits_not_is_named_by_check_and_training(
    case: Bad, ponds: Path, tried: None
) -> None:
    before = made(ponds)
    case.make(ponds)
    wsss("data", "check", "ponds").refuses(case.said)
    answer = wsss("segmenter", RUN)
    answer.refuses("p1.png")
    assert made(ponds) == before


@pytest.mark.parametrize("case", BAD_TABLES, ids=name_of)
def test_a_table_that_is_wrong_is_named_before_any_work(
    case: Bad, ponds: Path, tried: None
) -> None:
    before = made(ponds)
    case.make(ponds)
    answer = wsss("data", "check", "ponds")
    answer.refuses(case.said)
    assert all(line.startswith("ponds: ") for line in answer.out.splitlines())
    wsss("data", "prepare", "ponds").refuses(case.said)
    assert made(ponds) == before


@pytest.mark.parametrize("case", BAD_INDEXES, ids=name_of)
def test_an_index_that_is_wrong_is_named_and_nothing_written(
    case: Bad, ponds: Path, tried: None
) -> None:
    case.make(ponds)
    before = made(ponds)
    wsss("segmenter", RUN).refuses(case.said)
    assert made(ponds) == before


@pytest.mark.parametrize("case", CHANGED, ids=name_of)
def test_data_that_changed_after_the_index_was_made_are_noticed(
    case: Bad, ponds: Path, tried: None
) -> None:
    wsss("verify", "data", "ponds").accepts()
    case.make(ponds)
    answer = wsss("verify", "data", "ponds")
    answer.refuses("1 mismatch. Run `snakemake`")
    assert case.said in answer.out


def test_an_index_of_more_classes_than_the_network_is_refused(ponds: Path, tried: None) -> None:
    path = INDEX.with_name("val.json")
    content = read_json(path)
    content["classes"].append({"name": "toad", "label": 3, "colour": "#000000"})
    write_json(path, content)
    wsss("masks", RUN).refuses("is not a file of this network")


def test_masks_that_are_not_the_indexed_ones_are_refused(ponds: Path, tried: None) -> None:
    for stage in ("masks", "gather"):
        wsss(stage, RUN, *(["masks"] if stage == "gather" else [])).accepts()
    for number, command in ((2, ("evaluate", RUN, "segmentation")), (1, ("segmenter", RUN))):
        mask(ponds / f"masks/p{number}.png", 2, 1, 255, size=SIZE)
        wsss(*command).refuses(
            f"The mask masks/p{number}.png has changed since the index was made."
        )


SPREADSHEET = f"\ufeff{HEAD}\r\n" + "\r\n".join(row(n, s) for n, s in enumerate(["train", "val"]))


@pytest.mark.parametrize(
    "text",
    [SPREADSHEET, f'"{HEAD.replace(",", chr(34) + "," + chr(34))}"\n{row(0, "train")}\n{row(1, "val")}',
     f"{HEAD}\n\n{row(0, 'train')}\n\n{row(1, 'val')}\n\n", f" {HEAD} \n{row(0, 'train')}\n{row(1, 'val')} "],
    ids=["of a spreadsheet", "quoted", "empty lines", "spaces around"],
)  # fmt: skip
def test_a_table_as_spreadsheets_write_it_is_read(text: str, ponds: Path, tried: None) -> None:
    (ponds / TABLE).write_bytes(text.encode())
    wsss("data", "check", "ponds").accepts()
    wsss("data", "prepare", "ponds").accepts()


@pytest.mark.slow
def test_a_damaged_image_met_by_a_worker_is_named_in_one_line(ponds: Path, tried: None) -> None:
    (ponds / "photos/p1.png").write_bytes(b"")
    settings = (ponds / "params.yaml").read_text().replace("epochs: 1", "epochs: 1, workers: 2")
    (ponds / "params.yaml").write_text(settings)
    program("segmenter", RUN).refuses("photos/p1.png is not an image")


@pytest.mark.slow
def test_a_broken_index_ends_the_program_with_exit_code_two(ponds: Path, tried: None) -> None:
    INDEX.write_text("{")
    program("segmenter", RUN).refuses("train.json is not valid JSON")
