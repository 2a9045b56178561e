"""Raw files that changed are noticed before jobs are planned, and files that did not are not read."""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import made_datasets
import pytest
from made_data import mask, picture

from wsss.data.index import load_index
from wsss.data.index_parts import part_path
from wsss.data.manifest import load_manifest
from wsss.datasets.voc import CLASSES
from wsss.errors import DatasetError, StaleError
from wsss.runs.run import Run
from wsss.runs.staleness import data_differences, stale, verify
from wsss.settings import CsvParams, CubParams, DataParams, Params, StampsParams, VocParams
from wsss.stages.prepare import prepare
from wsss.stages.refresh import refresh


@pytest.fixture
def ponds(table: Path, work: Path) -> Params:
    """Return the settings of a prepared dataset in the current folder."""
    csv_params = CsvParams(table="images.csv", root=".")
    params = Params(datasets=("ponds",), data=DataParams(csv={"ponds": csv_params}))
    prepare(params, "ponds")
    return params


def said(params: Params) -> list[str]:
    return list(refresh(params))


def stats(folder: Path = Path("work")) -> dict[str, tuple[int, int]]:
    """Return number and time of all files; a file that is written again has another number."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def spoil(paths: Iterable[Path]) -> None:
    """Give files bytes that nobody can decode, with the same size and time."""
    for path in paths:
        before = path.stat()
        path.write_bytes(b"x" * before.st_size)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_nothing_is_said_or_written_if_nothing_changed(ponds: Params) -> None:
    before = stats()
    assert said(ponds) == []
    assert stats() == before


def test_a_replaced_image_changes_its_part_alone(ponds: Params) -> None:
    before = stats()
    picture(Path("photos/p1.png"), 99)
    [line] = said(ponds)
    assert line == (
        "ponds: 1 raw file has changed (photos/p1.png): the index was made again; its part train "
        "changed"
    )
    after = stats()
    written = {path for path in after if after[path] != before[path]}
    assert written == {f"work/ponds/{n}.json" for n in ("index", "index/train", "files", "data")}
    assert said(ponds) == []


def test_a_file_of_the_same_content_changes_nothing_but_its_time(ponds: Params) -> None:
    before, paths = stats(), [*Path("photos").iterdir(), Path("images.csv")]
    for path in paths:
        os.utime(path, (0, 0))
    assert said(ponds) == []
    after = stats()
    assert {path for path in after if after[path] != before[path]} == {"work/ponds/files.json"}
    spoil(paths)
    assert said(ponds) == []  # the new times stand in the manifest


def test_unchanged_files_are_not_read_again(ponds: Params) -> None:
    spoil(path for path in Path().glob("*/*.png") if path.name != "p2.png")
    mask(Path("masks/p2.png"), 2, 1, 255)
    assert said(ponds)[0].endswith("its part val_truth changed")


def test_a_whole_preparation_reads_every_file(ponds: Params) -> None:
    spoil([Path("photos/p0.png")])
    with pytest.raises(DatasetError, match=r"photos/p0\.png is not an image"):
        prepare(ponds, "ponds")


def test_files_that_disappear_are_counted_and_the_reader_says_what_it_misses(
    ponds: Params,
) -> None:
    Path("masks/p1.png").unlink()
    with pytest.raises(DatasetError, match=r"line 3: masks/p1\.png is missing"):
        said(ponds)
    Path("images.csv").unlink()
    with pytest.raises(DatasetError, match=r"images\.csv cannot be read .*Set table"):
        said(ponds)


def test_an_image_that_is_damaged_is_one_line(ponds: Params) -> None:
    before = stats()
    Path("photos/p1.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"line 3: photos/p1\.png is not an image"):
        said(ponds)
    assert stats() == before


def test_a_table_that_is_missing_from_the_start_is_named(work: Path) -> None:
    csv_params = CsvParams(table="birds.csv")
    params = Params(datasets=("birds",), data=DataParams(csv={"birds": csv_params}))
    with pytest.raises(DatasetError, match=r"birds\.csv cannot be read .*data\.csv\.birds\.table"):
        said(params)


def test_without_the_raw_data_nothing_is_compared(ponds: Params) -> None:
    shutil.rmtree("photos")
    assert said(ponds) == []
    assert list(data_differences(Run(ponds, "ponds", "cam", "common", 0))) == []


def test_an_older_folder_is_left_to_the_rule(ponds: Params) -> None:
    picture(Path("photos/p1.png"), 99)
    part_path(Path("work/ponds/index.json"), "train").unlink()
    assert said(ponds) == []


def test_an_index_of_other_settings_or_code_is_left_to_the_rule(ponds: Params) -> None:
    record = Path("work/ponds/data.json")
    picture(Path("photos/p1.png"), 99)
    for key, value in (("code", "0" * 16), ("params", {})):
        text = record.read_text()
        record.write_text(json.dumps({**json.loads(text), key: value}))
        assert said(ponds) == []
        record.write_text(text)
    assert len(said(ponds)) == 1


def test_an_index_is_not_changed_under_jobs_that_run(ponds: Params) -> None:
    Path(".snakemake/locks").mkdir(parents=True)
    Path(".snakemake/locks/0.input.lock").touch()
    picture(Path("photos/p1.png"), 99)
    before = stats()
    [line] = said(ponds)
    assert "while another snakemake runs here" in line
    assert stats() == before


def test_images_in_an_archive_are_raw_files_too(table: Path, work: Path) -> None:
    shutil.make_archive("photos", "zip", ".", "photos")
    shutil.rmtree("photos")
    text = Path("images.csv").read_text().replace("photos/", "photos.zip/photos/")
    Path("images.csv").write_text(text)
    csv_params = CsvParams(table="images.csv")
    params = Params(datasets=("ponds",), data=DataParams(csv={"ponds": csv_params}))
    prepare(params, "ponds")
    manifest = load_manifest(Path("work/ponds/files.json"))
    assert manifest
    assert "photos.zip" in manifest.files
    assert said(params) == []


def test_the_table_of_results_refuses_raw_files_that_changed(ponds: Params) -> None:
    run = Run(ponds, "ponds", "cam", "common", 0)
    verify(run, partly=True)
    picture(Path("photos/p1.png"), 99)
    changed = r"ponds data: 1 raw file has changed \(photos/p1\.png\)"
    with pytest.raises(StaleError, match=changed):
        verify(run, partly=True)
    said(ponds)
    verify(run, partly=True)
    Path("work/ponds/files.json").write_text("{")
    with pytest.raises(StaleError, match=r"work/ponds/files\.json, which names its raw files"):
        verify(run, partly=True)


def devkit_with(root: Path) -> Params:
    """Return the settings of a prepared devkit with an image of every class and masks of SBD."""
    images = {f"2007_{n:06d}": ("train", [name], "devkit") for n, name in enumerate(CLASSES)}
    images |= {"2009_000000": ("val", ["cat"], "devkit")}
    images |= {"2010_000000": ("aug", ["dog"], "sbd")}
    made_datasets.voc(root, images)
    return Params(datasets=("voc12",), data=DataParams(voc12=VocParams(root=str(root))))


def test_masks_that_are_unpacked_later_are_found_and_nothing_else_is_read(work: Path) -> None:
    root = work / "VOC2012"
    params = devkit_with(root)
    (root / "SegmentationClassAug").rename("later")
    prepare(params, "voc12")
    spoil([*root.glob("*/*.jpg"), *root.glob("*/*.xml"), *root.glob("*/*.png")])
    picture(root / "JPEGImages/2010_000000.jpg", 5)  # was in no list
    (root / "Annotations/2010_000000.xml").write_text(
        f"<a>{made_datasets.OBJECT.format('dog')}</a>"
    )
    Path("later").rename(root / "SegmentationClassAug")
    [line] = said(params)
    assert line.startswith("voc12: 22 raw files are new (")
    assert line.endswith("its parts train, train_truth changed")
    assert [e.name for e in load_index(Path("work/voc12/index.json")).split("aug")] == [
        "2010_000000"
    ]


def annotate(path: Path) -> None:
    """Add an object to an annotation."""
    cow = made_datasets.OBJECT.format("cow")
    path.write_text(path.read_text().replace("</annotation>", f"{cow}</annotation>"))


@pytest.mark.parametrize(
    ("name", "change", "parts"),
    [
        ("ImageSets/Segmentation/test.txt", lambda path: path.write_text("2010_000000"), "val, val_truth"),
        ("Annotations/2007_000003.xml", annotate, "train"),
        ("SegmentationClass/2009_000000.png", lambda path: mask(path, 9, 255), "val_truth"),
        ("JPEGImages/2009_000000.jpg", lambda path: picture(path, 77), "val"),
    ],
)  # fmt: skip
def test_every_kind_of_file_of_the_devkit_counts(
    work: Path, name: str, change: Callable[[Path], object], parts: str
) -> None:
    params = devkit_with(work / "VOC2012")
    shutil.rmtree("VOC2012/SegmentationClassAug")
    prepare(params, "voc12")
    change(work / "VOC2012" / name)
    [line] = said(params)
    assert line.endswith(f"its part{'s' * (',' in parts)} {parts} changed")


def test_tables_and_images_of_cub_count(work: Path) -> None:
    made_datasets.cub(work / "cub")
    params = Params(datasets=("cub",), data=DataParams(cub=CubParams(root="cub")))
    prepare(params, "cub")
    boxes = Path("cub/bounding_boxes.txt")
    boxes.write_text(boxes.read_text().replace("6.0 2.7", "7.0 2.7"))
    assert said(params)[0].endswith("its part val_truth changed")


def test_a_dataset_with_an_archive_is_made_by_its_rule(work: Path, stamp_folder: Path) -> None:
    shutil.copytree(stamp_folder, "stamps")
    settings = StampsParams(root="stamps", backgrounds="textures", train=22, val=11, size_px=64)
    params = Params(datasets=("stamps",), data=DataParams(stamps=settings))
    prepare(params, "stamps")
    run, record = Run(params, "stamps", "cam", "common", 0), Path("work/stamps/data.json")
    bird = Path("stamps/animals/birds/bird1.png")
    os.utime(bird, (0, 0))
    assert said(params) == []
    assert stale(run) == set()
    before = stats()
    shutil.copy("stamps/animals/fish/fish0.png", bird)
    [line] = said(params)
    assert line == f"stamps: 1 raw file has changed ({bird}): the dataset is made again"
    assert stats() == before
    assert stale(run) == {record}
    prepare(params, "stamps")
    assert stale(run) == set()
    shutil.copy(bird, bird.with_name("new.png"))
    assert "1 raw file is new" in said(params)[0]
