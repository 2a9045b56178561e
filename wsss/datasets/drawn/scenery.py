"""Photographs of scenes, cut and scaled at random: what the objects of `stamps` stand before.

Those of Debian's package `scratch` (480 x 360 pixels, CC-BY-SA 3.0, Massachusetts Institute of
Technology), or whatever photographs a folder has. None is used in both training and validation
pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsss.errors import DatasetError
from wsss.settings.data import TEXTURES

SUFFIXES = (".jpg", ".jpeg", ".png")
# In the package, but drawings, or with flowers, instruments or vehicles, which are classes of `stamps`.
LEFT_OUT = {
    "atom-playground", "basketball-court2", "party-room", "room1", "room2", "room3", "school2",
    "spotlight-stage", "woods-and-bench",
    "flower-bed", "graffiti", "mural-faro", "parking-ramp",
}  # fmt: skip
SMALLEST_CUT = 0.5  # side of the smallest cut over the short side of a photograph


def photographs(root: Path) -> list[Path]:
    """Return the photographs below a folder; an error names what to install if there are fewer than two."""
    files = [
        file
        for file in sorted(root.rglob("*"))
        if file.suffix.lower() in SUFFIXES and file.stem not in LEFT_OUT
    ]
    if len(files) < 2:
        raise DatasetError(
            f"{root} has {len(files)} photographs for backgrounds. Run `apt-get install scratch`, or set "
            f"data.stamps.backgrounds to a folder of photographs, or to {TEXTURES}."
        )
    return files


def cutter(
    files: Mapping[str, Sequence[Path]], side: int
) -> Callable[[str, np.random.Generator], NDArray[np.uint8]]:
    """Return the function (split, generator) -> background (side, side, 3); it reads every file once.

    files: the photographs of each split.
    """
    images: dict[Path, Image.Image] = {}

    def cut(split: str, generator: np.random.Generator) -> NDArray[np.uint8]:
        path = files[split][int(generator.integers(len(files[split])))]
        if path not in images:
            images[path] = _read(path)
        return _cut(images[path], generator, side)

    return cut


def _read(path: Path) -> Image.Image:
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise DatasetError(
            f"The background {path} is damaged ({error}). Install it again, or take it away."
        ) from None


def _cut(image: Image.Image, generator: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """Cut a random square, mirror it half of the times, and scale it to `side` pixels."""
    short = min(image.size)
    px = float(generator.uniform(SMALLEST_CUT, 1.0)) * short
    left = float(generator.uniform(0, image.width - px))
    top = float(generator.uniform(0, image.height - px))
    box = (left, top, left + px, top + px)
    background = image.resize((side, side), Image.Resampling.LANCZOS, box)
    if generator.random() < 0.5:
        background = background.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.array(background)
