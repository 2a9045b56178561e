"""Files of other programs that cannot be used: named in one line, nothing written, nothing in them run."""

import os
import shutil
import zipfile
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pytest
import yaml
from answer import wsss
from bad_brought import (
    BAD_REGIONS,
    DAMAGED,
    DAMAGES,
    MEMBERS,
    ODD,
    Odd,
    good_regions,
    zipped,
)
from bad_weights import TRACE
from brought import COCO, KINDS, LABELS, LOGITS, LOGITS_NPZ, NPZ, PSA, TRAIN, Kind

from wsss.storage.archive import pack_arrays

RUN = "ponds/brought/common/s0"
MADE = Path("work", RUN)


def named(kind: Kind) -> str:
    return kind.name


def set_imports(**settings: object) -> None:
    """Add settings of the import to params.yaml."""
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["imports"]["brought"] |= settings
    Path("params.yaml").write_text(yaml.safe_dump(content))


def check_refused(victim: str, said: str = "", *command: str) -> None:
    """Fail unless the import is refused with the file's name, and leaves nothing."""
    answer = wsss(*(command or ("import", RUN)))
    answer.refuses(said)
    assert len(answer.err.splitlines()) == 1, answer.err
    assert Path(victim).stem in answer.err
    assert not Path(TRACE).exists()
    assert not any(path.is_file() for path in MADE.rglob("*"))


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_a_good_file_of_each_kind_is_imported(kind: Kind, ponds: Path) -> None:
    kind.put(ponds)
    wsss("import", RUN).accepts()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", DAMAGED, ids=named)
def test_a_damaged_file_is_named(kind: Kind, damage: str, ponds: Path, tried: None) -> None:
    DAMAGES[damage](kind.put(ponds))
    check_refused(kind.victim)


@pytest.mark.parametrize("case", ODD, ids=str)
def test_content_that_cannot_be_used_is_named(case: Odd, ponds: Path, tried: None) -> None:
    victim = case.kind.put(ponds)
    victim.write_bytes(case.kind.encode(case.content))
    set_imports(**case.settings)
    check_refused(case.kind.victim, case.said)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_of_an_archive_that_is_no_array_is_named(
    member: str, ponds: Path, tried: None
) -> None:
    victim, (content, said) = LOGITS_NPZ.put(ponds), MEMBERS[member]
    zipped(victim, member, content)
    check_refused(LOGITS_NPZ.victim, said)


@pytest.mark.parametrize("name", ["a  b", "Kröte 蛙 🐸", "--help", "<b>$x_1$ %d {}", "a\nb", "a.b"])
def test_files_of_any_name_are_imported(name: str, ponds: Path, tried: None) -> None:
    table = ponds / "images.csv"
    table.write_text(table.read_text().replace("photos/p1.png", f'"photos/{name}.png"'))
    (ponds / "photos/p1.png").rename(ponds / f"photos/{name}.png")
    wsss("data", "prepare", "ponds").accepts()
    for kind in (PSA, LABELS):
        victim = kind.put(ponds)
        victim.rename(victim.with_name(f"{name}{victim.suffix}"))
        wsss("import", RUN).accepts()


@pytest.fixture(scope="session")
def regions(spring: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a pond whose run has imported CAMs and uses regions; do not write to it."""
    folder = tmp_path_factory.mktemp("regions") / "ponds"
    shutil.copytree(spring, folder)
    with chdir(folder):
        PSA.put(folder)
        content = yaml.safe_load(Path("params.yaml").read_text())
        content["pseudo"] = {"source": "cam", "threshold": 0.3, "regions": "regions"}
        Path("params.yaml").write_text(yaml.safe_dump(content))
        for name in TRAIN:
            Path("regions").mkdir(exist_ok=True)
            Path(f"regions/{name}.npz").write_bytes(good_regions())
        wsss("import", RUN).accepts()
    return folder


@pytest.fixture
def region_pond(regions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the pond with regions, which is the current folder."""
    folder = tmp_path / "ponds"
    shutil.copytree(regions, folder)
    monkeypatch.chdir(folder)
    return folder


def check_no_labels(said: str) -> None:
    """Fail unless pseudo labels are refused and none are written."""
    answer = wsss("pseudo", RUN)
    answer.refuses(said)
    assert len(answer.err.splitlines()) == 1, answer.err
    assert not Path(TRACE).exists()
    assert not (MADE / "pseudo.zip").exists()


@pytest.mark.parametrize(
    "damage", ["empty", "half", "words", "web page", "array", "folder", "link to itself", "named pipe"]
)  # fmt: skip
def test_damaged_regions_of_an_image_are_named(damage: str, region_pond: Path, tried: None) -> None:
    DAMAGES[damage](Path("regions/p1.npz"))
    check_no_labels("regions/p1.npz")


@pytest.mark.parametrize("name", BAD_REGIONS)
def test_regions_of_another_form_are_named(name: str, region_pond: Path, tried: None) -> None:
    arrays, said = BAD_REGIONS[name]
    Path("regions/p1.npz").write_bytes(pack_arrays(arrays))
    check_no_labels(said)


@pytest.mark.parametrize("damage", ["empty", "words", "picture", "zeros", "named pipe"])
def test_a_damaged_archive_of_regions_is_named(damage: str, region_pond: Path, tried: None) -> None:
    with zipfile.ZipFile("regions.zip", "w") as archive:
        for name in TRAIN:
            archive.write(f"regions/{name}.npz", f"{name}.npz")
    settings = Path("params.yaml")
    settings.write_text(settings.read_text().replace("regions: regions", "regions: regions.zip"))
    DAMAGES[damage](Path("regions.zip"))
    check_no_labels(
        "regions.zip cannot" if damage == "named pipe" else "regions.zip is not a whole"
    )


def test_regions_fill_labels_where_nothing_is_damaged(region_pond: Path) -> None:
    wsss("pseudo", RUN).accepts()


PIPES: dict[str, tuple[str, ...]] = {
    "images.csv": ("data", "check", "ponds"),
    "work/ponds/index/train.json": ("segmenter", "ponds/supervised/common/s0"),
    "table.csv": ("table", "--from", "table.csv"),
    "seed.json": ("table", "--from", "seed.json"),
}


@pytest.mark.parametrize("name", PIPES)
def test_a_pipe_in_place_of_a_file_holds_nobody_up(name: str, ponds: Path, tried: None) -> None:
    Path(name).unlink(missing_ok=True)
    os.mkfifo(name)
    wsss(*PIPES[name]).refuses(f"{name} cannot be read (it is a pipe or a device)")


TABLES: dict[str, Callable[[Path], object]] = {
    name: DAMAGES[name] for name in ("empty", "words", "web page", "picture", "array")
}


@pytest.mark.parametrize("damage", TABLES)
@pytest.mark.parametrize("name", ["table.csv", "seed.json"])
def test_a_table_of_another_place_that_is_none_is_named(
    name: str, damage: str, ponds: Path, tried: None
) -> None:
    TABLES[damage](Path(name))
    wsss("table", "--from", name, "--output", "out").refuses(f"{name} is not")
    assert not Path("out").exists()


def test_a_cell_of_a_table_that_is_too_long_is_named(ponds: Path, tried: None) -> None:
    Path("table.csv").write_text("dataset\n" + "x" * 200_000)
    wsss("table", "--from", "table.csv").refuses("table.csv is not a table.csv")


@pytest.mark.parametrize("suffix", ["", "/"])
def test_files_that_are_not_there_are_named(suffix: str, ponds: Path, tried: None) -> None:
    for kind in (NPZ, COCO, LOGITS):
        kind.put(ponds)
        content = yaml.safe_load(Path("params.yaml").read_text())
        content["imports"]["brought"] = {kind.key: f"nowhere{suffix}"}
        Path("params.yaml").write_text(yaml.safe_dump(content))
        wsss("import", RUN).refuses("nowhere does not exist. Correct imports.brought.")
