"""VOC's layout with SBD's masks, through IRNet's published path to a table by one command."""

import json
import zipfile
from pathlib import Path

import made_datasets
import pytest
import yaml
from checkout import Checkout

RUN = "work/voc12/cam/published/s0"
# The published settings on pictures of 20 px: the same networks, from random weights, for a step.
TINY = {
    "methods": ["cam"],
    "protocols": ["published"],
    "seeds": [0],
    "shards": 1,
    "segmenter": {
        "backbone": "toy",
        "weights": "none",
        "augment": {"crop_px": 32},
        "train": {"epochs": 1, "batch": 5, "workers": 0},
        "test": {"scales": [1.0], "crf": "none"},
    },
    "overrides": {
        "tiny": {
            "protocol": "published",
            "set": {
                "classifier": {
                    "weights": "none",
                    "augment": {"crop_px": 64, "long_side_px": [24, 48]},
                    "train": {"epochs": 1, "batch": 5, "workers": 0},
                },
                "affinity": {
                    "weights": "none",
                    "augment": {"crop_px": 96},
                    "train": {"epochs": 1, "batch": 5, "workers": 0},
                },
                "walk": {"pad_px": 64},
            },
        }
    },
}


@pytest.mark.slow
def test_irnets_published_path_leads_to_a_table(fresh: Checkout, tmp_path: Path) -> None:
    mine = fresh.copy(tmp_path / "repository")
    images = made_datasets.every_class()
    made_datasets.voc(mine.folder / "data/VOCdevkit/VOC2012", images)
    made_datasets.sbd_of(mine.folder / "data/benchmark_RELEASE/dataset", images)
    (mine.folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    mine.snakemake("all", f"{RUN}/instances.zip", "--configfile", "params/voc12.yaml", "tiny.yaml")
    index = json.loads((mine.folder / "work/voc12/index.json").read_text())
    assert {image["split"] for image in index["images"]} == {"train", "aug", "val"}
    affinity = json.loads((mine.folder / RUN / "affinity.json").read_text())
    assert affinity["params"]["kind"] == "irn"
    assert affinity["params"]["backbone"] == "resnet50_irn"
    scored = {path.stem for path in (mine.folder / RUN / "eval").glob("*.json")}
    assert scored == {"seed", "walk", "pseudo", "segmentation"}
    labels = [image["name"] for image in index["images"] if image["split"] != "val"]
    with zipfile.ZipFile(mine.folder / RUN / "instances.zip") as members:
        assert sorted(members.namelist()) == sorted(f"{name}.npz" for name in labels)
    table = (mine.folder / "results/voc12/table.md").read_text()
    assert "published" in table
    assert all(stage in table for stage in ("seed", "pseudo label", "segmentation"))
