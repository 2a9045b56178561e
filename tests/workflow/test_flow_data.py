"""Raw data that changed after a run: what runs again, what is said, and what is left alone."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import raw_data
from checkout import Checkout
from made_data import mask, picture
from raw_data import Raw, touch
from test_flow_plan import END, LOCALIZED, MASKED, SEGMENTED, rules

NOTHING: set[str] = set()
TRAINED = {"train"} | LOCALIZED
CALIBRATED = LOCALIZED - {"cam_shard", "cam"}  # masks of training images choose thresholds
VAL_SCORES = {"evaluate segmentation"}
Change = Callable[[Raw], object]


def removed(raw: Raw) -> None:
    table = raw.folder / "images.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(line for line in lines if "p006" not in line) + "\n")


def reordered(raw: Raw) -> None:
    head, *lines = (raw.folder / "images.csv").read_text().splitlines()
    (raw.folder / "images.csv").write_text("\n".join([head, *reversed(lines)]) + "\n")


def new_val_masks(raw: Raw) -> None:
    for number in (4, 5, 6):
        mask(raw.folder / f"masks/p{number:03d}.png", 2, 1, 1, 255)


def unpacked(raw: Raw) -> None:
    (raw.folder / "SegmentationClassAug").rename(raw.folder / "VOC2012/SegmentationClassAug")


def shorter_list(raw: Raw) -> None:
    """Take the last image out of train.txt."""
    path = raw.folder / "VOC2012/ImageSets/Segmentation/train.txt"
    path.write_text("\n".join(path.read_text().split()[:-1]))


# change -> (dataset, how it is made, what the method `cam` runs again, what `supervised` does)
CHANGES: dict[str, tuple[str, Change, set[str], set[str]]] = {
    "a training image is replaced": (
        "ponds", lambda raw: picture(raw.folder / "photos/p001.png", 77), TRAINED, SEGMENTED,
    ),
    "all masks of val are replaced": ("ponds", new_val_masks, VAL_SCORES, VAL_SCORES),
    "two classes of a training mask are swapped": (
        "ponds", lambda raw: raw.swap("masks/p002.png"), CALIBRATED, SEGMENTED,
    ),
    "the rows are in another order": ("ponds", reordered, NOTHING, NOTHING),
    "an image of val is removed": ("ponds", removed, MASKED, MASKED),
    "an image of val has another class": (
        "ponds", lambda raw: raw.edit("images.csv", "p005.png,frog;newt", "p005.png,newt"),
        VAL_SCORES, VAL_SCORES,
    ),
    "every file has another time": (
        "ponds", lambda raw: touch([*raw.folder.glob("*/*.png"), raw.folder / "images.csv"]),
        NOTHING, NOTHING,
    ),
    "masks of SBD are unpacked": ("voc", unpacked, TRAINED, NOTHING),
    "a list is edited": ("voc", shorter_list, TRAINED, NOTHING),
    "a saliency map is replaced": (
        "voc", lambda raw: touch([shutil.copy(raw.folder / "SegmentationClassAug/2007_000003.png",
                                              raw.folder / "saliency/2007_000003.png")]),
        TRAINED, NOTHING,
    ),
    "a photograph is replaced": (
        "stamps", lambda raw: shutil.copy(raw.folder / "stamps/animals/fish/fish0.png",
                                          raw.folder / "stamps/animals/birds/bird1.png"),
        {"draw"} | TRAINED, {"draw"},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def planned(
    fresh: Checkout, tmp_path_factory: pytest.TempPathFactory, stamp_folder: Path
) -> Iterator[dict[str, set[str]]]:
    """Yield the jobs that would run after each change, and after none."""
    base = tmp_path_factory.mktemp("raw")
    folders = {name: base / name for name in ("ponds", "voc", "stamps")}
    for folder in folders.values():
        folder.mkdir()
    runs = {
        "ponds": raw_data.ponds(fresh, folders["ponds"]),
        "voc": raw_data.voc(fresh, folders["voc"]),
        "stamps": raw_data.stamps(fresh, folders["stamps"], stamp_folder),
    }
    for number, (dataset, change, *_) in enumerate(CHANGES.values()):
        change(runs[dataset].copy(base / f"{number}"))
    numbered = [base / f"{number}" for number in range(len(CHANGES))]
    jobs = fresh.dry_in([*folders.values(), *numbered])
    yield dict(zip([*folders, *CHANGES], jobs, strict=True))
    shutil.rmtree(base)


@pytest.mark.parametrize("dataset", ["ponds", "voc", "stamps"])
def test_nothing_but_the_table_is_missing(planned: dict[str, set[str]], dataset: str) -> None:
    assert rules(planned[dataset]) == END


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_raw_data_runs_what_reads_it_and_nothing_else(
    planned: dict[str, set[str]], name: str
) -> None:
    _, _, *expected = CHANGES[name]
    for method, again in zip(("cam", "supervised"), expected, strict=True):
        other = "supervised" if method == "cam" else "cam"
        jobs = {job for job in planned[name] if f"/{other}/" not in job}
        assert rules(jobs) - END == again - END, method


@pytest.mark.slow
def test_snakemake_says_what_changed_and_what_cannot_be_read(
    fresh: Checkout, tmp_path: Path
) -> None:
    here = Checkout(raw_data.ponds(fresh, tmp_path).folder)
    picture(here.folder / "photos/p001.png", 77)
    said = here.snakemake("--dry-run")
    assert "(photos/p001.png): the index was made again; its part train changed" in said
    (here.folder / "photos/p001.png").write_bytes(b"")
    said = here.snakemake("--dry-run", status=1)
    assert "Traceback" not in said
    [line] = [line for line in said.splitlines() if "p001.png" in line]
    assert line.endswith(
        "photos/p001.png is not an image. Replace it by a file of BMP, GIF, JPEG, "
        "PNG, PPM, TIFF, WEBP."
    )
