"""The walk-throughs of the documentation, done as they are written, at smoke size."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from checkout import Checkout
from PIL import Image

from wsss.data import labelmap
from wsss.datasets.drawn import shapes
from wsss.settings import ShapesParams

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import blocks  # noqa: E402  # beside the tests of the README

pytestmark = pytest.mark.slow


def typed(checkout: Checkout, block: str) -> str:
    """Type a block of commands into a shell and return what it said."""
    return checkout.call("bash", "-euo", "pipefail", "-c", block).stdout


def lines(checkout: Checkout, path: str) -> list[dict[str, str]]:
    with (checkout.folder / path).open() as file:
        return list(csv.DictReader(file))


def test_an_own_method_outside_the_package_is_in_the_table(mine: Checkout) -> None:
    settings, params = blocks("docs/add-a-method.md", "yaml")
    (module,) = blocks("docs/add-a-method.md", "python")
    folder = mine.folder / "my_methods/topk"
    folder.mkdir(parents=True)
    (folder / "topk.yaml").write_text(settings)
    (folder / "method.py").write_text(module)
    (commands,) = blocks("docs/add-a-method.md", "sh")
    mine.set(yaml.safe_load(params))
    said = typed(mine, commands)
    assert "topk: CAM, top-k pooling. an example [classifier]" in said
    stages = {(line["method"], line["stage"]) for line in lines(mine, "results/table.csv")}
    assert {("topk", s) for s in ("seed", "walk", "pseudo", "segmentation")} <= stages
    assert "CAM, top-k pooling" in (mine.folder / "results/summary.md").read_text()
    assert {line["method"] for line in lines(mine, "results/topk/table.csv")} == {"cam", "topk"}


def birds(folder: Path) -> None:
    """Write drawn pictures as photographs of robins and tits, with masks for some."""
    rows = []
    for number in range(20):
        drawn = shapes.picture(ShapesParams(min_px=48, max_px=64), "train", number)
        labels = np.where(drawn.mask == 0, 0, 1 + (drawn.mask > 3)).astype(np.uint8)
        split = "val" if number >= 16 else "train"
        names = [("robin", "tit")[label - 1] for label in np.unique(labels[labels > 0])]
        photo, mask = f"photos/{number:04d}.png", f"masks/{number:04d}.png"
        for name in (photo, mask):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn.image).save(folder / photo)
        (folder / mask).write_bytes(labelmap.encode(labels))
        rows.append(f"{photo},{';'.join(names)},{split},{mask if number % 3 else ''}")
    (head,) = blocks("docs/own-data.md", "csv")
    (folder / "images.csv").write_text("\n".join([head.splitlines()[0], *rows]) + "\n")


def test_a_folder_and_a_table_become_results(fresh: Checkout, tmp_path: Path) -> None:
    mine = fresh.copy(tmp_path / "repository")
    birds(mine.folder / "birds")
    (settings,) = blocks("docs/own-data.md", "yaml")
    (mine.folder / "mine.yaml").write_text(settings)
    run, use = blocks("docs/own-data.md", "sh")
    said = typed(mine, run)
    assert "No errors found, " in said
    assert {line["dataset"] for line in lines(mine, "results/table.csv")} == {"birds"}
    assert "segmentation" in said
    typed(mine, use)
    written = {path.name for path in (mine.folder / "exported").iterdir()}
    assert written == {"tree", "masks.json", "cams"}
    assert len(list((mine.folder / "predictions/masks").iterdir())) == 20
    found = lines(mine, "predictions/classes.csv")
    assert {line["class"] for line in found} <= {"robin", "tit"}
