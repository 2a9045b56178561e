"""Pictures of noise and striped masks, a few pixels large."""

from pathlib import Path

import numpy as np
from PIL import Image

from wsss.data import labelmap

SIDE = 24


def picture(path: Path, seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> Path:
    """Write a picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    return path


def mask(path: Path, *values: int, size: tuple[int, int] = (SIDE, SIDE)) -> Path:
    """Write a mask of background with one column of each of `values`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.zeros(size, np.uint8)
    for column, value in enumerate(values):
        labels[:, column] = value
    path.write_bytes(labelmap.encode(labels))
    return path
