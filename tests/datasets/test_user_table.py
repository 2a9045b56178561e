"""Tables of a user's own images: what is read, and what is refused with file and line."""

from pathlib import Path

import pytest
from made_data import picture

from wsss.data.index import Index
from wsss.datasets import user_table
from wsss.errors import DatasetError
from wsss.settings import CsvParams


def read(folder: Path, separator: str = ";") -> Index:
    params = CsvParams(table=str(folder / "images.csv"), root=str(folder), separator=separator)
    return user_table.read(params, "ponds")


def write(folder: Path, *rows: str) -> None:
    (folder / "images.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def test_a_table_becomes_an_index(table: Path) -> None:
    index = read(table)
    assert index.classes == ("frog", "newt")
    assert [(e.name, e.split) for e in index.images] == [
        ("p0", "train"), ("p1", "train"), ("p2", "val"), ("p3", "test")
    ]  # fmt: skip
    first = index.images[0]
    assert first.labels == ("frog", "newt")
    assert first.size == (24, 24)
    assert first.path == f"{table}/photos/p0.png"
    assert first.mask == f"{table}/masks/p0.png"


def test_masks_and_names_are_optional_and_spreadsheets_are_understood(table: Path) -> None:
    text = '\ufeffname,image,labels,split\r\n"a, b",photos/p0.png,frog|newt|frog,train\r\n'
    (table / "images.csv").write_bytes(text.encode())
    (entry,) = read(table, "|").images
    assert (entry.name, entry.mask, entry.labels) == ("a, b", None, ("frog", "newt"))


def test_equal_stems_are_told_apart_by_their_folders(table: Path) -> None:
    picture(table / "more" / "p0.png", 9)
    write(table, "image,labels,split", "photos/p0.png,frog,train", "more/p0.png,frog,val")
    assert [entry.name for entry in read(table).images] == ["photos-p0", "more-p0"]


def test_paths_of_a_table_written_on_windows_are_read(table: Path) -> None:
    rows = [r"photos\p0.png,frog,train,masks\p0.png", r"photos\p1.png,frog,val,"]
    write(table, f"{HEAD},mask", *rows)
    first, second = read(table).images
    assert (first.path, first.mask) == (f"{table}/photos/p0.png", f"{table}/masks/p0.png")
    assert [first.name, second.name] == ["p0", "p1"]


def test_one_cause_is_one_line_with_the_number_of_rows(table: Path) -> None:
    rows = [f"pictures/p{number}.png,frog,train" for number in range(30)]
    write(table, HEAD, *rows, "photos/p0.png,frog,training", "photos/p1.png,frog,validation")
    params = CsvParams(table=str(table / "images.csv"), root=str(table))
    _, problems = user_table.scan(params, "ponds")
    missing, *splits = problems
    assert f"line 2: {table}/pictures/p0.png is missing" in missing
    assert missing.endswith(
        "The same holds for 29 more: line 3, line 4, line 5, line 6, line 7 and 24 more."
    )
    assert ["'training'" in splits[0], "'validation'" in splits[1]] == [True, True]


def test_an_image_may_have_no_label(table: Path) -> None:
    write(table, "image,labels,split", "photos/p0.png,,val")
    assert read(table).images[0].labels == ()


HEAD = "image,labels,split"
GOOD = "photos/p0.png,frog,train"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["image;labels;split"], "has no column 'image' (it has image;labels;split)"),
        (["image,labels"], "has no column 'split'"),
        ([f"{HEAD},colour"], "unknown or doubled column (it has image, labels, split, colour)"),
        ([f"{HEAD},image"], "unknown or doubled column"),
        ([HEAD], "has no rows. Write one for each image."),
        ([""], "has no column 'image' (it has none)"),
        ([HEAD, GOOD, "photos/p1.png,frog"], "images.csv, line 3: more or fewer cells"),
        ([HEAD, "photos/p0.png,frog,newt,train"], "images.csv, line 2: more or fewer cells"),
        ([HEAD, ",frog,train"], "line 2: the cell image is empty"),
        ([HEAD, "/etc/p0.png,frog,train"], "line 2: image '/etc/p0.png' leads out of the dataset"),
        ([HEAD, "../p0.png,frog,train"], "line 2: image '../p0.png' leads out"),
        ([HEAD, "photos/../../p0.png,frog,train"], "line 2: image 'photos/../../p0.png' leads out"),
        ([HEAD, r"C:\p0.png,frog,train"], "leads out of the dataset"),
        ([HEAD, r"..\p0.png,frog,train"], "leads out of the dataset"),
        ([f"{HEAD},mask", f"{GOOD},../m.png"], "line 2: mask '../m.png' leads out"),
        ([f"{HEAD},mask", f"{GOOD},masks/none.png"], "line 2: "),
        ([HEAD, GOOD, "photos/p1.png,frog,training"], "line 3: unknown split 'training'. Use one"),
        ([HEAD, GOOD, GOOD], "line 3: the image 'photos/p0.png' is also in line 2"),
        ([f"{HEAD},name", f"{GOOD},a", "photos/p1.png,frog,val,a"], "line 3: the name 'a' is also"),
        ([f"{HEAD},name", f"{GOOD},a/b"], "line 2: 'a/b' cannot name a file"),
        ([HEAD, "photos/none.png,frog,train"], "photos/none.png is missing"),
        ([HEAD, "images.csv,frog,train"], "images.csv is not an image"),
        ([HEAD, "photos/p0.png,background,train"], "line 2: 'background' is the name of unlabelled pixels"),
        ([HEAD, '"photos/p0.png,frog,train'], "is not a CSV table in UTF-8"),
    ],
)  # fmt: skip
def test_a_bad_table_is_refused_in_one_line(table: Path, rows: list[str], message: str) -> None:
    write(table, *rows)
    with pytest.raises(DatasetError) as caught:
        read(table)
    assert "images.csv" in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_absent_table_and_another_encoding_are_refused(table: Path) -> None:
    (table / "images.csv").write_bytes("image,labels,split\na.png,Kröte,train".encode("latin-1"))
    with pytest.raises(DatasetError, match="is not a CSV table in UTF-8"):
        read(table)
    (table / "images.csv").unlink()
    with pytest.raises(
        DatasetError, match=r"cannot be read .* Set table of this dataset in data\.csv"
    ):
        read(table)
