"""What is known of public datasets, and how an index that differs is told so."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from wsss.data.index import Entry, Index
from wsss.datasets import coco, facts, voc

NAMES = ("a2", "a10", "b")
CLASSES = ("cat", "dog")


def entry(name: str, labels: tuple[str, ...], split: str = "train") -> Entry:
    return Entry(name, f"{name}.jpg", None, labels, split, (4, 4), name)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Index:
    """Return a dataset of three images that is known exactly."""
    images = [entry("b", ("cat", "dog")), entry("a2", ("dog",)), entry("a10", ("cat",))]
    fact: dict[str, Any] = {
        "splits": ["train"],
        "images": 3,
        "names": hashlib.sha256(b"a10\na2\nb").hexdigest(),
        "labels": hashlib.sha256(bytes([1, 0, 0, 1, 1, 1])).hexdigest(),
        "images_per_class": [2, 2],
    }
    more = {"splits": ["train"], "images": 5, "names": "other"}
    monkeypatch.setattr(facts, "expected_lists", lambda _: {"five": more, "three": fact})
    return Index("known", CLASSES, tuple(images))


def test_the_known_list_has_no_problem_in_whatever_order(index: Index) -> None:
    assert list(facts.differences(index)) == []
    turned = Index("known", CLASSES, index.images[::-1])
    assert list(facts.differences(turned)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: i[:2], "The list train of known has 2 images, not 5 or 3"),
        (lambda i: (*i[:2], entry("a11", ("cat",))), "names other images than the official one"),
        (lambda i: (*i[:2], entry("a10", ("cat", "dog"))), "(dog 3 instead of 2)"),
        (lambda i: (i[0], entry("a2", ("cat",)), entry("a10", ("dog",))),
         "(some images have the labels of others)"),
    ],
)  # fmt: skip
def test_a_list_that_differs_is_named_with_what_differs(
    index: Index, change: Callable[[tuple[Entry, ...]], tuple[Entry, ...]], message: str
) -> None:
    (problem,) = facts.differences(Index("known", CLASSES, change(index.images)))
    assert message in problem.text
    assert "Numbers are not comparable with published ones" in problem.text
    assert problem.severity == "remark"


def test_hashes_do_not_depend_on_the_order_or_type_of_what_is_hashed() -> None:
    assert facts.names_hash(NAMES) == facts.names_hash(NAMES[::-1])
    matrix = np.eye(3)
    assert facts.labels_hash(matrix) == facts.labels_hash(matrix.T.astype(np.uint8))
    assert (
        facts.labels_hash(matrix) == hashlib.sha256(bytes([1, 0, 0, 0, 1, 0, 0, 0, 1])).hexdigest()
    )


def test_what_is_known_adds_up() -> None:
    lists = facts.expected_lists("voc12")
    assert lists["train_aug"]["splits"] == ["train", "aug"]
    assert lists["train"]["images"] + lists["val"]["images"] == 2913
    assert all(
        len(f["images_per_class"]) == len(voc.CLASSES) for f in lists.values() if "labels" in f
    )
    assert facts.expected_lists("coco14")["coco2014_val_with_annotations"]["images"] == 40137
    assert len(coco.CLASSES) == 80
    assert sum(fact["images"] for fact in facts.expected_lists("cub").values()) == 11788
    assert facts.expected_lists("shapes") == {}
