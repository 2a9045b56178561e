"""Label images: classes, colours, and 8-bit palette PNGs."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsss.errors import DatasetError

BACKGROUND = 0
IGNORE = 255


def palette() -> list[int]:
    """Return the 768 values of the PASCAL VOC palette (red, green, blue of label 0, 1, ...)."""
    values = []
    for label in range(256):
        for channel in range(3):
            bits = (label >> 3 * place >> channel & 1 for place in range(8))
            values.append(sum(bit << 7 - place for place, bit in enumerate(bits)))
    return values


def colour(label: int) -> str:
    """Return the palette's colour of `label` as #rrggbb."""
    red, green, blue = palette()[3 * label : 3 * label + 3]
    return f"#{red:02x}{green:02x}{blue:02x}"


def encode(labels: NDArray[Any]) -> bytes:
    """Return labels (height, width) of 0..255 as a palette PNG."""
    picture = Image.fromarray(labels.astype(np.uint8))
    picture.putpalette(palette())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=False)
    return buffer.getvalue()


def decode(content: bytes, name: str) -> NDArray[np.uint8]:
    """Return the labels (height, width) of an indexed or grey PNG.

    Raises:
        DatasetError: the file is damaged or has colours instead of labels.
    """
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.mode not in ("P", "L"):
                raise DatasetError(
                    f"The mask {name} has colours ({picture.mode}) instead of one label per pixel. "
                    "Save it as an indexed PNG whose values are class numbers."
                )
            return np.array(picture, np.uint8)
    except (OSError, SyntaxError, ValueError) as error:
        raise DatasetError(f"The mask {name} cannot be read ({error}). Replace the file.") from None
