"""Finished runs on raw data of many kinds, made without training, in folders that tests may change."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import made_datasets
import numpy as np
import pytest
import yaml
from checkout import Checkout
from made_data import SIDE, mask, picture
from made_run import make_run
from PIL import Image

from wsss.data import labelmap
from wsss.data.images import load_mask
from wsss.data.index import load_index
from wsss.datasets.voc import CLASSES
from wsss.runs.run import planned_runs
from wsss.settings.base import merge
from wsss.settings.resolve import load_params, read_yaml
from wsss.stages.prepare import prepare

LINKED = ("Snakefile", "workflow", "wsss", "envs", "profiles")
SPLITS = ("train",) * 4 + ("val",) * 3


@dataclass(frozen=True)
class Raw:
    """A folder with a finished run on a dataset."""

    folder: Path

    def copy(self, folder: Path) -> "Raw":
        """Return a copy with the same files and times."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Raw(folder)

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a text that must be in a file."""
        path = self.folder / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def swap(self, name: str) -> None:
        """Exchange the first two classes of a mask."""
        labels = load_mask(self.folder / name)
        other = np.array([0, 2, 1, *range(3, 256)])[labels]
        (self.folder / name).write_bytes(labelmap.encode(other))


def finished(checkout: Checkout, folder: Path, settings: dict[str, Any]) -> Raw:
    """Prepare the raw data of a folder, and write the files of all its runs, but for the tables."""
    for name in LINKED:
        (folder / name).symlink_to(checkout.folder / name)
    given = read_yaml(checkout.folder / "params.yaml")
    (folder / "params.yaml").write_text(yaml.safe_dump(merge(given, settings), sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        params = load_params([Path("params.yaml")])
        for dataset in params.datasets:
            prepare(params, dataset)
        for run in planned_runs(params):
            make_run(run, load_index(run.index))
    return Raw(folder)


def ponds(checkout: Checkout, folder: Path) -> Raw:
    """Return finished runs of two methods on a user's own table of seven images with masks."""
    rows = ["image,labels,split,mask"]
    for number, split in enumerate(SPLITS):
        picture(folder / f"photos/p{number:03d}.png", number)
        mask(folder / f"masks/p{number:03d}.png", 1, 2, 2, 255)
        rows.append(f"photos/p{number:03d}.png,frog;newt,{split},masks/p{number:03d}.png")
    (folder / "images.csv").write_text("\n".join(rows) + "\n")
    table = {"csv": {"ponds": {"table": "images.csv"}}}
    return finished(checkout, folder, {"datasets": ["ponds"], "data": table})


def voc(checkout: Checkout, folder: Path) -> Raw:
    """Return a finished run on a VOC devkit with saliency maps and without masks of SBD."""
    images = {f"2007_{n:06d}": ("train", [name], "devkit") for n, name in enumerate(CLASSES)}
    images |= {"2007_000020": ("train", ["cat"], "devkit")}
    images |= {f"2009_{n:06d}": ("val", ["cat"], "devkit") for n in range(2)}
    images |= {f"2010_{n:06d}": ("aug", ["dog"], "sbd") for n in range(2)}
    root = made_datasets.voc(folder / "VOC2012", images)
    (root / "SegmentationClassAug").rename(folder / "SegmentationClassAug")
    (folder / "saliency").mkdir()
    for name in images:
        Image.fromarray(np.full((SIDE, SIDE), 99, np.uint8)).save(folder / f"saliency/{name}.png")
    source = {"root": "VOC2012", "saliency": "saliency"}
    return finished(
        checkout, folder, {"datasets": ["voc12"], "methods": ["cam"], "data": {"voc12": source}}
    )


def stamps(checkout: Checkout, folder: Path, photographs: Path) -> Raw:
    """Return a finished run on pictures composed of photographs."""
    shutil.copytree(photographs, folder / "stamps")
    source = {
        "root": "stamps",
        "backgrounds": "textures",
        "train": 22,
        "val": 11,
        "size_px": 64,
    }
    settings = {"datasets": ["stamps"], "methods": ["cam"], "data": {"stamps": source}}
    return finished(checkout, folder, settings)


def touch(paths: Sequence[Path]) -> None:
    """Give files another time."""
    for path in paths:
        os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 10**9))
