"""`wsss data check` on a user's table: masks that do not fit the labels, and names that are mistakes."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from answer import wsss
from fruit import HOLDS, LABELS, RIGHT, Values, check, grow, numbered, relabelled

from wsss.data.index import load_index

ORDER = "Set data.csv.fruit.classes: [pear, apple]"
SWAPPED = {"apple": 2, "pear": 1}


def test_a_good_table_has_one_line_on_what_it_holds(work: Path) -> None:
    grow(work)
    answer = check()
    answer.accepts()
    assert answer.out == f"{HOLDS}No problems found.\n"
    assert wsss("data", "prepare", "fruit").err.endswith(HOLDS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (numbered(SWAPPED), f"another order (so 14 of 14 masks fit their labels, now 4). {ORDER}"),
        (lambda n, names: [SWAPPED[x] for x in names] if n else [2, 1], ORDER),  # one is wrong
        (numbered({"apple": 255, "pear": 255}), "14 of 14 masks have no value but 0 and 255"),
        (numbered({"apple": 1, "pear": 1}), "The masks have the one value 1 for the objects of all"),
        (numbered({"apple": 128, "pear": 128}), "one value 128 for the objects of all classes. Give "
         "the objects of each class its number: 1 apple, 2 pear."),
        (numbered({"apple": 2, "pear": 3}), "number the classes from 2 on instead of 1 (so 14 of 14 "
         "masks fit their labels, now 0). Subtract 1 from each"),
        (numbered({"apple": 10, "pear": 11}), "from 10 on instead of 1"),
        (numbered({"apple": 38, "pear": 75}), "Change 38 to 1 (apple), 75 to 2 (pear)."),
        (numbered({"apple": 1, "pear": 3}), "Change 3 to 2 (pear)."),
        (numbered({}), "14 of 14 masks show no class, though their images have labels (the first is "
         "m0.png). Draw the objects."),
        (numbered({"apple": 1}), "5 of 14 masks show no class"),
        (lambda n, _: [1 + n % 2], "9 of 14 images have a class (apple in 5 of 9, pear in 4 of 9) in "
         "the labels but not in the mask (such as 'p1': no apple in m1.png)"),
        (lambda n, _: [1 + n % 2], "5 of 14 images have a class (apple in 3 of 7, pear in 2 of 7) in "
         "the mask but not in the labels (such as 'p1': pear in m1.png, labels apple)"),
        (lambda n, _: [1, 2, 40 + n % 2], "14 of 14 masks have values that are no class (40 in 7, 41 "
         "in 7; the first is m0.png). Labels are 0 to 2"),
    ],
)  # fmt: skip
def test_masks_that_do_not_fit_their_labels_are_an_error(
    work: Path, values: Values, message: str
) -> None:
    grow(work, values)
    answer = check()
    answer.refuses(message)
    assert answer.out.endswith(HOLDS)
    assert 1 <= answer.out.count("fruit: error: ") <= 2  # short, however many images are wrong


def test_classes_that_begin_at_zero_are_an_error(work: Path) -> None:
    grow(work, lambda _, names: [*(RIGHT[name] - 1 for name in names), *[255] * 16][:16])
    check().refuses("number the classes from 0 on instead of 1")


def test_the_order_that_fits_can_be_pasted(work: Path) -> None:
    grow(work, numbered(SWAPPED))
    pasted = check().out.partition("Set data.csv.fruit.")[2].splitlines()[0]
    grow(work, numbered(SWAPPED), settings=f", {pasted}")
    answer = check()
    answer.accepts()
    assert "2 classes (pear 6, apple 7)" in answer.out
    wsss("data", "prepare", "fruit").accepts()
    index = load_index(Path("work/fruit/index.json"))
    assert index.classes == ("pear", "apple")
    assert {entry.labels for entry in index.images if len(entry.labels) > 1} == {("pear", "apple")}


def test_a_single_wrong_mask_names_the_image(work: Path) -> None:
    grow(work, lambda n, names: [2] if n == 3 else [RIGHT[name] for name in names])
    check().refuses(
        "1 of 14 images have a class (pear in 1 of 10) in the mask but not in the labels"
    )


def test_images_of_val_need_no_labels(work: Path) -> None:
    grow(work, labels=[*LABELS[:10], "", "", "", ""])
    check().accepts()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (relabelled(";", ","), "the label 'apple,pear' (image 'p7') names several classes, but the "
         "separator is ';'. Set data.csv.fruit.separator: \",\", or list"),
        (relabelled(";", ", "), 'Set data.csv.fruit.separator: ","'),
        (relabelled(";", "|"), 'Set data.csv.fruit.separator: "|"'),
        (relabelled(";", "/"), 'Set data.csv.fruit.separator: "/"'),
        (relabelled(";", " / "), 'Set data.csv.fruit.separator: "/"'),
        (relabelled(";", "\t"), r'Set data.csv.fruit.separator: "\t"'),
        (relabelled(";", "_"), 'Set data.csv.fruit.separator: "_"'),
        (relabelled(";", ",", 1), "Write ';' between the classes of an image"),
        (relabelled("apple", "Apple", 1), "the classes 'Apple' (1 image, such as 'p0') and 'apple' (8)"),
        (relabelled("apple", "Apple", 4), "are almost equal. Write them the same way, or list all"),
        (relabelled("apple", "ap ple", 1), "the classes 'ap ple' (1 image"),
        (relabelled("apple", "aple", 1), "the classes 'aple' (1 image"),
        (relabelled("apple", "appel", 1), "the classes 'appel' (1 image"),
        (relabelled("pear", "pears", 3), "the classes 'pears' (3 images"),
    ],
)  # fmt: skip
def test_names_that_are_mistakes_are_an_error_for_check_and_prepare(
    work: Path, labels: Sequence[str], message: str
) -> None:
    grow(work, labels=labels)
    answer = check()
    answer.refuses(message)
    assert answer.out.count("error: ") == 1
    assert "fruit: 3 classes (" in answer.out
    wsss("data", "prepare", "fruit").refuses(message)
    assert not Path("work/fruit/index.json").exists()


def test_a_space_around_a_name_is_no_part_of_it(work: Path) -> None:
    grow(work, labels=relabelled("apple", " apple  "))
    assert check().out.startswith(HOLDS)


def test_names_that_are_listed_are_meant(work: Path) -> None:
    numbers = {"Apple": 3, **RIGHT}
    labels = relabelled("apple", "Apple", 3)
    grow(
        work,
        lambda n, _: [numbers[name] for name in labels[n].split(";")],
        labels,
        settings=", classes: [apple, pear, Apple]",
    )
    check().accepts()


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("[apple]", "images.csv, line 6 and 8 rows more: the label 'pear' is not one of "
         "data.csv.fruit.classes (apple). Correct it, or add it there."),
        ("[apple, paer]", "Did you mean 'paer'?"),
        ("[apple, pear, fig]", "The class 'fig' has no training image"),
        ("[background, apple, pear]", "leave out background; its number in the masks is 0"),
        ("[apple, pear, apple]", "'apple' is there twice"),
        ("[apple, ' ', pear]", "a name is empty"),
    ],
)  # fmt: skip
def test_a_list_of_classes_that_does_not_fit_is_refused(
    work: Path, classes: str, message: str
) -> None:
    grow(work, settings=f", classes: {classes}")
    check().refuses(message)
    wsss("data", "prepare", "fruit").refuses(message)


def test_an_empty_separator_is_refused(work: Path) -> None:
    grow(work, settings=", separator: ''")
    check().refuses("data.csv.fruit.separator")


@pytest.mark.parametrize(
    ("unmasked", "message"),
    [
        (
            (11,),
            "1 of 4 images of the split val have no mask (the first is 'p11'), so scores are of",
        ),
        (range(14), "No image of the split val has a mask to score it with"),
    ],
)
def test_masks_may_be_missing_with_a_remark(
    work: Path, unmasked: Sequence[int], message: str
) -> None:
    grow(work, unmasked=unmasked)
    answer = check()
    answer.accepts()
    assert f"fruit: remark: {message}" in answer.out
    check("--strict").refuses(message)
    prepared = wsss("data", "prepare", "fruit")
    prepared.accepts()
    assert f"fruit: remark: {message}" in prepared.err


def test_a_method_that_learns_true_masks_is_refused_where_some_are_missing(work: Path) -> None:
    grow(work, unmasked=(1,))
    check().accepts()
    settings = (work / "params.yaml").read_text()
    (work / "params.yaml").write_text(
        settings.replace("methods: [cam]", "methods: [cam, supervised]")
    )
    answer = check()
    answer.refuses("1 error")
    assert "have none (the first is 'p1'). Give them masks, or leave supervised out" in answer.out


def test_a_dataset_that_is_not_described_is_refused(work: Path) -> None:
    grow(work)
    wsss("data", "check", "fruits").refuses("'fruits' is not one of shapes, stamps")
