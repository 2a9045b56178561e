"""The parts of an index, each in a file of its own: a stage depends on those that it reads, and no others.

Imports no array library: Snakemake imports this module before every job.
"""

from __future__ import annotations

from pathlib import Path

TRAINING = ("train", "aug")  # `aug` images are trained on, but seeds are scored on `train` alone
TESTED = ("val", "test")

# part -> its splits, and the fields of an image that it holds. Images are trained on and predicted
# without their truth, which scores alone need.
PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "train": (
        TRAINING,
        ("name", "path", "labels", "split", "size", "checksum", "saliency", "saliency_checksum"),
    ),
    "train_truth": (TRAINING, ("name", "mask", "mask_checksum")),
    "val": (TESTED, ("name", "path", "split", "size", "checksum")),
    "val_truth": (TESTED, ("name", "mask", "mask_checksum", "labels", "boxes")),
}
TRUTH = ("train_truth", "val_truth")


def part_path(index: Path, part: str) -> Path:
    """Return the file of a part of the index `index`: `train` of `x/index.json` is `x/index/train.json`."""
    return index.with_suffix("") / f"{part}.json"
