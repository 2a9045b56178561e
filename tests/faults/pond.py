"""A pond: a small dataset of a user's own images, and a run on it whose network has random weights."""

from pathlib import Path

import torch
from made_data import mask, picture

from wsss.data.index import load_index
from wsss.nets.deeplab import build_deeplab
from wsss.runs.record import recorder
from wsss.runs.run import Run
from wsss.runs.sources import source_files
from wsss.settings.resolve import load_params
from wsss.stages.prepare import prepare
from wsss.storage import checkpoint
from wsss.training import session

RUN = "ponds/supervised/common/s0"
SPLITS = ("train", "train", "val", "test")
SIZE = (24, 40)  # height, width
VICTIM = "photos/p1.png"  # of the row that cases change
HEAD = "image,labels,split,mask"
PARAMS = """\
datasets: [ponds]
methods: [supervised]
data: {csv: {ponds: {table: images.csv}}}
segmenter:
  augment: {crop_px: 32}
  train: {epochs: 1, batch: 2}
  test: {scales: [1.0], mirror: false, batch: 4}
"""


def row(number: int, split: str) -> str:
    """Return the row of an image."""
    return f"photos/p{number}.png,frog; newt,{split},masks/p{number}.png"


def dig(folder: Path) -> Path:
    """Write four images with masks, a table of them and params.yaml."""
    for number in range(len(SPLITS)):
        picture(folder / f"photos/p{number}.png", number, SIZE)
        mask(folder / f"masks/p{number}.png", 1, 2, 255, size=SIZE)
    (folder / "images.csv").write_text("\n".join([HEAD, *map(row, range(4), SPLITS)]) + "\n")
    (folder / "params.yaml").write_text(PARAMS)
    return folder


def fill() -> None:
    """Prepare the dataset of the current folder; write the first weights of its segmenter and records."""
    params = load_params([Path("params.yaml")])
    prepare(params, "ponds")
    run = Run.parse(RUN, params)
    index = load_index(run.index)
    torch.manual_seed(0)
    net = build_deeplab(run.settings.segmenter, len(index.classes))
    header = session.header(run, "segmenter", index)
    weights = run.path("segmenter.safetensors")
    checkpoint.save(weights, net.state_dict(), header)
    for stage, outputs in (("segmenter", [weights]), ("masks", [])):
        files = source_files(run, stage)
        recorder(run, stage).write(run.path(f"{stage}.json"), files, outputs)


def rename_victim(folder: Path, name: str) -> Path:
    """Let the row of the victim name another file; return where that is to be."""
    if name != VICTIM:
        table = folder / "images.csv"
        table.write_text(table.read_text().replace(VICTIM, name))
        (folder / VICTIM).unlink()
    return folder / name
