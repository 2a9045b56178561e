"""Pseudo labels snapped to masks of regions, through the stage and the table."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from made_run import make_dataset, make_run

from wsss.data.images import load_mask
from wsss.data.index import Entry, Index
from wsss.data.labelmap import decode
from wsss.errors import DatasetError
from wsss.runs.flow import Flow
from wsss.runs.missing import Plan, missing_files
from wsss.runs.run import Run
from wsss.runs.verification import run_mismatches
from wsss.settings import Params, PseudoParams
from wsss.stages.evaluate import evaluate
from wsss.stages.pseudo import pseudo
from wsss.storage.archive import Reader
from wsss.storage.files import read_json

CLASSES = ("a", "b", "c")


def write_true_regions(path: Path, entries: list[Entry]) -> None:
    """Write the true masks of the classes of each image as its regions."""
    path.mkdir()
    for entry in entries:
        truth = load_mask(entry.mask or "")
        masks = [truth == label for label in np.unique(truth) if 0 < label < 255]
        np.savez_compressed(path / f"{entry.name}.npz", masks=np.stack(masks))


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_labels_fill_drawn_regions(work: Path, squares: Index, kind: str) -> None:
    folder = Path("regions")
    regions = "regions.zip" if kind == "archive" else "regions"
    params = Params(pseudo=PseudoParams(threshold=0.4, regions=regions))
    assert [file.path for file in missing_files(Plan.of(params)) if file.blocks] == [regions]
    run = Run(params, "shapes", "cam", "common", 0)
    index = make_dataset(squares, "shapes", params, CLASSES)
    make_run(run, index)
    entries = index.training()
    write_true_regions(folder, entries)
    if kind == "archive":
        with zipfile.ZipFile(regions, "w") as archive:
            for path in folder.iterdir():
                archive.write(path, path.name)
    pseudo(run)
    evaluate(run, "pseudo")
    record, walked = (read_json(run.path(f"eval/{what}.json")) for what in ("pseudo", "walk"))
    assert record["miou"] > walked["miou"]
    labels = decode(Reader(run.path("pseudo.zip")).read(f"{entries[0].name}.png"), "pseudo")
    masks = np.load(folder / f"{entries[0].name}.npz")["masks"]
    for mask in masks:
        assert len(np.unique(labels[mask])) == 1
    inputs = read_json(run.path("pseudo.json"))["inputs"]
    read = regions if kind == "archive" else f"regions/{entries[0].name}.npz"
    assert read in inputs
    assert not [line for line in run_mismatches(run) if "regions" in line]
    Path(read).write_bytes(Path(read).read_bytes() + b"\0")
    assert [line for line in run_mismatches(run) if f"another {read}" in line]


def test_an_image_without_regions_stops_the_stage(work: Path, squares: Index) -> None:
    params = Params(pseudo=PseudoParams(threshold=0.4, regions="regions"))
    run = Run(params, "shapes", "cam", "common", 0)
    index = make_dataset(squares, "shapes", params, CLASSES)
    make_run(run, index)
    write_true_regions(Path("regions"), index.training()[1:])
    with pytest.raises(DatasetError, match="lacks the masks of 1 of"):
        pseudo(run)


def test_the_rule_reads_the_regions(work: Path) -> None:
    class Job:
        dataset, method, protocol, seed = "shapes", "cam", "common", "0"

    assert Flow({"pseudo": {"regions": "r.zip"}}).regions(Job()) == ["r.zip"]  # type: ignore[arg-type]
    assert Flow({}).regions(Job()) == []  # type: ignore[arg-type]
