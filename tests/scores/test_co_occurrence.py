"""Scores on contexts: of the classes that always have one, where it is clear whose it is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from wsss.data import labelmap
from wsss.data.index import Entry, Index
from wsss.runs.evaluation import ContextActivation
from wsss.scores import co_occurrence
from wsss.storage import archive
from wsss.storage.cam_archive import Cam, CamReader, pack

SIZE = (8, 8)
CLASSES = ("boat", "cat", "train")


def entry(name: str, labels: Sequence[str]) -> Entry:
    return Entry(name, f"{name}.png", f"{name}.mask.png", tuple(labels), "train", SIZE, name)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Index, Path, Path]:
    """Write maps of 0.5 on contexts (rows 4 to 7) and 1 on objects (rows 0 and 1)."""
    shown = {
        "a": ["boat"],
        "b": ["boat", "cat"],
        "c": ["cat"],
        "d": ["boat", "train"],
        "e": ["train"],
    }
    entries = tuple(entry(name, labels) for name, labels in shown.items())
    index = Index("drawn", CLASSES, entries)
    marks, cams = tmp_path / "images.zip", tmp_path / "cam.zip"
    with archive.Writer(marks) as images, archive.Writer(cams) as maps:
        for item in entries:
            where = np.zeros(SIZE, np.uint8)
            where[4:] = set(item.labels) != {"cat"}
            images.add(f"context/{item.name}.png", labelmap.encode(where))
            labels = index.numbers(item.labels)
            cam = np.zeros((len(labels), *SIZE), np.float16)
            cam[:, 4:] = 0.9 if item.name == "d" else 0.5
            cam[:, :2] = 1.0
            maps.add(f"{item.name}.npz", pack(Cam(np.array(labels, np.int16), cam, SIZE, 1)))
    return index, marks, cams


def test_classes_that_always_have_a_context_are_measured_where_it_is_theirs(
    made: tuple[Index, Path, Path],
) -> None:
    index, marks, cams = made

    def truth(item: Entry) -> np.ndarray:
        found = np.zeros(SIZE, np.uint8)
        found[:2] = index.numbers(item.labels)[0] + 1
        return found

    found = co_occurrence.activations(
        index.split("train"), index, CamReader(cams), truth, co_occurrence.reader(marks)
    )
    assert found == tuple(
        ContextActivation(name=name, context=0.5, object=1.0) for name in ("boat", "train")
    )


def test_only_archives_with_marks_have_contexts(made: tuple[Index, Path, Path]) -> None:
    index, marks, cams = made
    assert co_occurrence.marked(index, marks)
    assert not co_occurrence.marked(index, cams)
    assert not co_occurrence.marked(index, None)
