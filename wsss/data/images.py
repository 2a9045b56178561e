"""Decode images and masks."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsss.archive import read_path
from wsss.data import labelmap


def load_image(path: str | Path) -> NDArray[np.uint8]:
    """Return an image as RGB (H, W, 3)."""
    with Image.open(io.BytesIO(read_path(Path(path)))) as picture:
        return np.array(picture.convert("RGB"))


def load_mask(path: str | Path) -> NDArray[np.uint8]:
    """Return labels (H, W)."""
    return labelmap.decode(read_path(Path(path)), str(path))
