"""The pictures of a gallery, each as small as it can be: the browser colours and enlarges them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsss.data import labelmap
from wsss.report.figures.panels import OPEN, Labels, Picture
from wsss.storage.cam_archive import Cam, grid

QUALITY = 85  # of WebP: no blocks are seen at twice the size
LEVELS = 255  # of a score, as 8 bits
SAMPLES = 33  # of the heat's colours; the browser interpolates


def photo(image: Picture, longest_px: int) -> bytes:
    """Return an image (H, W, 3) as WebP, reduced to `longest_px` where it is larger."""
    picture = _reduced(Image.fromarray(image), longest_px, Image.Resampling.LANCZOS)
    return _saved(picture, "WEBP", quality=QUALITY)


def labels(pixels: Labels, longest_px: int) -> bytes:
    """Return labels (H, W) as a palette PNG whose background is transparent, reduced likewise."""
    picture = Image.fromarray(pixels)
    colours = labelmap.palette()
    colours[3 * labelmap.IGNORE :] = OPEN
    picture.putpalette(colours)
    picture = _reduced(picture, longest_px, Image.Resampling.NEAREST)
    return _saved(picture, "PNG", optimize=True, transparency=labelmap.BACKGROUND)


def heat(cam: Cam, longest_px: int) -> tuple[bytes, tuple[float, float]]:
    """Return the largest score of the present classes as a grey PNG, at the size it is stored in.

    Maps of the size of the image are reduced to `longest_px`. Also returns how many times the
    height and the width of the image the picture covers: its last cells may reach beyond it.
    """
    maps = cam.cam if cam.high is None else cam.high
    height, width = grid(cam.size, cam.stride) if cam.high is None else cam.size
    scores = maps.max(0) if len(maps) else np.zeros((height, width), np.float16)
    cell = cam.stride if cam.high is None else 1
    covered = (scores.shape[0] * cell / cam.size[0], scores.shape[1] * cell / cam.size[1])
    picture = _reduced(Image.fromarray(_grey(scores)), longest_px, Image.Resampling.BOX)
    return _saved(picture, "PNG", optimize=True), covered


def heat_colours() -> list[str]:
    """Return the red, green and blue of rising scores, each as a table for an SVG filter."""
    import matplotlib as mpl  # noqa: PLC0415  # heavy, and of use here alone

    colours = mpl.colormaps["inferno"](np.linspace(0, 1, SAMPLES))[:, :3]
    return [" ".join(f"{value:.3f}" for value in channel) for channel in colours.T]


def _grey(scores: NDArray[Any]) -> NDArray[np.uint8]:
    clipped = np.clip(scores.astype(np.float32), 0, 1)
    return np.asarray((clipped * LEVELS).round(), np.uint8)


def _reduced(picture: Image.Image, longest_px: int, way: Image.Resampling) -> Image.Image:
    """Return a picture whose longest side is at most `longest_px`."""
    factor = longest_px / max(picture.size)
    if factor >= 1:
        return picture
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, way)


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
