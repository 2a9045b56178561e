"""Label images: classes, colours, and 8-bit palette PNGs."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from wsss.errors import DatasetError
from wsss.storage.content import stand_in

BACKGROUND = 0
IGNORE = 255
# Only these formats are opened: Pillow hands others, such as EPS, to outside programs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MOST_CLASSES = IGNORE - 1  # besides background and 255
# The exceptions that Pillow raises for damaged files, besides its own warnings.
BROKEN = (OSError, EOFError, SyntaxError, ValueError, IndexError, struct.error, zlib.error)


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


def encode(labels: NDArray[np.generic]) -> bytes:
    """Return labels (height, width) of 0..255 as the bytes of a palette PNG."""
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
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            if picture.mode not in ("P", "L"):
                raise DatasetError(
                    f"The mask {name} has colours ({picture.mode}) instead of one label per pixel. "
                    "Save it as an indexed PNG whose values are class numbers."
                )
            return np.array(picture, np.uint8)
    except UnidentifiedImageError:
        if kind := stand_in(content):
            raise DatasetError(f"The mask {name} is not an image but {kind}.") from None
        raise DatasetError(f"The mask {name} is not an image. Replace it by a PNG.") from None
    except BROKEN as error:
        reason = " ".join(str(error).split())
        raise DatasetError(
            f"The mask {name} cannot be read ({reason}). Replace the file."
        ) from None


def misfits(
    labels: NDArray[np.uint8], size: tuple[int, int], classes: int, name: str
) -> Iterator[str]:
    """Yield the reasons why labels (H, W) do not fit an image of `size` (H, W) and `classes` classes."""
    if labels.shape != size:
        yield (
            f"The mask {name} is {labels.shape[1]} x {labels.shape[0]} px, its image "
            f"{size[1]} x {size[0]}. Make them equal; rotation by EXIF counts."
        )
    odd = [int(value) for value in np.unique(labels) if classes < value != IGNORE]
    if odd:
        yield value_misfit(odd[0], classes, name)


def value_misfit(value: int, classes: int, name: str) -> str:
    """Return the message for a mask with a value that is no class."""
    return (
        f"The mask {name} has the value {value}, but labels are 0 to {classes} "
        f"and {IGNORE} to ignore. Renumber it, and do not save masks as JPEG."
    )
