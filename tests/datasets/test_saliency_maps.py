"""A user's saliency maps: one grey PNG for each training image of any dataset."""

from pathlib import Path

import made_datasets
import pytest
from made_data import mask

from wsss.data.index import load_index
from wsss.data.manifest import load_manifest
from wsss.errors import DatasetError
from wsss.runs.inputs import manifest_path
from wsss.settings import CsvParams, DataParams, Params, VocParams
from wsss.stages.check import problems
from wsss.stages.prepare import prepare


def texts(params: Params, dataset: str) -> list[str]:
    """Return what `wsss data check` says of a dataset."""
    return [problem.text for problem in problems(params, dataset)]


def test_maps_belong_to_training_images_and_have_their_size(devkit: Path, work: Path) -> None:
    maps = made_datasets.saliency(devkit.parent / "saliency")
    params = Params(data=DataParams(voc12=VocParams(root=str(devkit), saliency=str(maps))))
    prepare(params, "voc12")
    index = load_index(Path("work/voc12/index.json"))
    assert {entry.name: entry.saliency for entry in index.images} == {
        name: f"{maps}/{name}.png" if split != "val" else None
        for name, (split, *_) in made_datasets.DEVKIT.items()
    }
    manifest = load_manifest(manifest_path("voc12"))
    assert manifest is not None
    assert f"{maps}/2007_000001.png" in manifest.files
    mask(maps / "2007_000001.png", 1, size=(24, 30))
    message = "2007_000001.png is 30 x 24 px, its image 24 x 24"
    with pytest.raises(DatasetError, match=message):
        prepare(params, "voc12")
    assert any(message in text for text in texts(params, "voc12"))
    (maps / "2007_000001.png").unlink()
    with pytest.raises(DatasetError, match=r"set data.voc12.saliency to u2netp or ''"):
        prepare(params, "voc12")


def test_a_users_own_table_may_have_maps(table: Path, work: Path) -> None:
    settings = CsvParams(table=str(table / "images.csv"), root=str(table), saliency="maps")
    params = Params(data=DataParams(csv={"ponds": settings}))
    with pytest.raises(DatasetError, match=r"maps/p0.png is missing.*data.csv.ponds.saliency to"):
        prepare(params, "ponds")
    for number in range(2):
        mask(Path(f"maps/p{number}.png"), 200)
    prepare(params, "ponds")
    index = load_index(Path("work/ponds/index.json"))
    assert [entry.saliency for entry in index.images] == ["maps/p0.png", "maps/p1.png", None, None]
