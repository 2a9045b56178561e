"""The pictures of a gallery in small files; the browser colours and enlarges them."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsss.data import labelmap
from wsss.report.figures.panels import OPEN, Labels, Picture
from wsss.storage.cam_archive import Cam, grid

QUALITY = 85  # of WebP; no blocks are visible at twice the size
LEVELS = 255  # the largest grey level, for score 1
SAMPLES = 33  # colours of the heat map; the browser interpolates between them


def photo(image: Picture, longest_px: int) -> bytes:
    """Return an image (H, W, 3) as WebP, reduced to `longest_px` if it is larger."""
    picture = _reduced(Image.fromarray(image), longest_px, Image.Resampling.LANCZOS)
    return _saved(picture, "WEBP", quality=QUALITY)


def labels(pixels: Labels, longest_px: int) -> bytes:
    """Return labels (H, W) as a palette PNG with a transparent background, reduced like a photo."""
    picture = Image.fromarray(pixels)
    colours = labelmap.palette()
    colours[3 * labelmap.IGNORE :] = OPEN
    picture.putpalette(colours)
    picture = _reduced(picture, longest_px, Image.Resampling.NEAREST)
    return _saved(picture, "PNG", optimize=True, transparency=labelmap.BACKGROUND)


def heat(cam: Cam, longest_px: int) -> tuple[bytes, tuple[float, float]]:
    """Return the largest score of the present classes as a grey PNG, one pixel for each cell.

    Maps of the size of the image are reduced to `longest_px`. Also returns (height, width) of the
    picture in heights and widths of the image, at least 1: the last cells may reach beyond it.
    """
    maps = cam.cam if cam.high is None else cam.high
    height, width = grid(cam.size, cam.stride) if cam.high is None else cam.size
    scores = maps.max(0) if len(maps) else np.zeros((height, width), np.float16)
    cell = cam.stride if cam.high is None else 1
    covered = (scores.shape[0] * cell / cam.size[0], scores.shape[1] * cell / cam.size[1])
    picture = _reduced(Image.fromarray(_grey(scores)), longest_px, Image.Resampling.BOX)
    return _saved(picture, "PNG", optimize=True), covered


def heat_colours() -> list[str]:
    """Return red, green and blue of rising scores, three tables for an SVG filter."""
    import matplotlib as mpl  # noqa: PLC0415  # heavy, and only needed here

    colours = mpl.colormaps["inferno"](np.linspace(0, 1, SAMPLES))[:, :3]
    return [" ".join(f"{value:.3f}" for value in channel) for channel in colours.T]


def _grey(scores: NDArray[np.floating]) -> NDArray[np.uint8]:
    clipped = np.clip(scores.astype(np.float32), 0, 1)
    return np.asarray((clipped * LEVELS).round(), np.uint8)


def _reduced(picture: Image.Image, longest_px: int, kernel: Image.Resampling) -> Image.Image:
    """Return the picture, reduced so that its longest side is at most `longest_px`."""
    factor = longest_px / max(picture.size)
    if factor >= 1:
        return picture
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, kernel)


def _saved(picture: Image.Image, file_format: str, **options: int | bool) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()
