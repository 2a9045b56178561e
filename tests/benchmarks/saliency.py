"""How well the saliency maps of a dataset cover its objects, and pictures of good and bad ones.

    python tests/benchmarks/saliency.py stamps --params params/stamps.yaml maps.yaml --images 100

It stands in the folder of a checkout with the index of the dataset and the archive of `wsss saliency`. A map
above a level is compared with the true foreground of its training image, all classes as one.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsss.data.images import load_entry, load_saliency, load_truth
from wsss.data.index import Entry, load_index
from wsss.data.labelmap import IGNORE
from wsss.refine.saliency import SALIENT
from wsss.runs.inputs import data_section
from wsss.runs.run import WORK
from wsss.runs.saliency import SaliencyMaps
from wsss.settings.data import saliency_network
from wsss.settings.resolve import load_params
from wsss.stages.pseudo import with_maps

LEVELS = (SALIENT, 64, 96, 128, 160, 192)
HALF = 128  # level of the picture's order
SHOWN = 6  # images of the picture, at equal steps from the worst to the best


def scored(entries: Sequence[Entry], classes: int) -> Iterator[NDArray[np.float64]]:
    """Yield the IoU of each image's map with its foreground, at every level."""
    for entry in entries:
        truth, saliency = load_truth(entry, classes), load_saliency(entry)
        counted, inside = truth != IGNORE, (truth > 0) & (truth != IGNORE)
        salient = [(saliency >= level) & counted for level in LEVELS]
        yield np.array([(part & inside).sum() / (part | inside).sum() for part in salient])


def picture(path: Path, entries: Sequence[Entry], classes: int) -> None:
    """Write a row for each image: the image, its foreground, its map."""
    rows = []
    for entry in entries:
        inside = (load_truth(entry, classes) > 0).astype(np.uint8) * 255
        grey = [np.repeat(part[..., None], 3, 2) for part in (inside, load_saliency(entry))]
        rows.append(np.concatenate([load_entry(entry), *grey], 1))
    half = len(rows) // 2
    columns = [np.concatenate(part) for part in (rows[:half], rows[half:])]
    Image.fromarray(np.concatenate(columns, 1)).save(path, quality=85)


def main() -> None:
    """Read the command line, print the table and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("--params", type=Path, nargs="+", default=[Path("params.yaml")])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--picture", type=Path)
    chosen = parser.parse_args()
    network = saliency_network(data_section(load_params(chosen.params), chosen.dataset))
    index = load_index(WORK / chosen.dataset / "index.json", "train", "train_truth")
    if network:
        index = with_maps(index, [SaliencyMaps(chosen.dataset, network)])
    entries, classes = index.training()[: chosen.images], len(index.classes)
    ious = np.stack(list(scored(entries, classes)))
    print(f"| level of 255, {len(entries)} images | mean IoU | median IoU |\n|---|--:|--:|")
    for level, column in zip(LEVELS, ious.T, strict=True):
        print(f"| {level} | {column.mean():.3f} | {np.median(column):.3f} |")
    if chosen.picture:
        order = np.argsort(ious[:, LEVELS.index(HALF)])
        shown = order[np.linspace(0, len(order) - 1, SHOWN).round().astype(int)]
        picture(chosen.picture, [entries[number] for number in shown], classes)


if __name__ == "__main__":
    main()
