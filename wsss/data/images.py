"""Decode images of cameras, scanners and drawing programs as 8-bit RGB, and masks as labels."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from wsss.data import labelmap
from wsss.data.index import Entry, replaced_file
from wsss.data.labelmap import BROKEN, FORMATS
from wsss.errors import DatasetError
from wsss.storage.archive import Reader, read_path
from wsss.storage.content import stand_in
from wsss.storage.files import checksum

DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # 16 bits per pixel, in whatever byte order
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation of RGB in [0, 1]
MIN_SIDE_PX = 16  # a smaller image is a single cell for a network of stride 16
ORIENTATION = 0x0112  # the EXIF tag; values above 4 swap height and width
BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def load_image(path: str | Path) -> NDArray[np.uint8]:
    """Return an image as a viewer shows it, RGB (H, W, 3) of 8 bits.

    EXIF rotation is applied, transparency is laid on white, 16 bits become 8, and an animation gives
    its first frame.

    Raises:
        DatasetError: the file is not an image, truncated or impossibly large.
    """
    return _decoded(read_path(Path(path)), path)


def _decoded(content: bytes, path: str | Path) -> NDArray[np.uint8]:
    with _opened(content, path) as picture:
        return np.array(_rgb(picture))


def picture_pixels(picture: Image.Image) -> NDArray[np.uint8]:
    """Return an image that Pillow has opened or made as RGB (H, W, 3), as `load_image` does."""
    return np.array(_rgb(picture))


def load_entry(entry: Entry) -> NDArray[np.uint8]:
    """Return an image of an index, RGB (H, W, 3); `DatasetError` if it is not the indexed file."""
    content = read_path(Path(entry.path))
    image = _decoded(content, entry.path)
    _check_content(content, entry.checksum, "image", entry.path)
    if image.shape[:2] != entry.size:
        raise DatasetError(replaced_file("image", entry.path))
    return image


def read_entry(entry: Entry) -> bytes:
    """Return the bytes of an image of an index; `DatasetError` if it is not the indexed file."""
    content = read_path(Path(entry.path))
    _check_content(content, entry.checksum, "image", entry.path)
    return content


def _check_content(content: bytes, expected: str, kind: str, path: str) -> None:
    """Raise a `DatasetError` unless bytes have the checksum `expected`; an empty one is not compared."""
    if expected and checksum(content) != expected:
        raise DatasetError(replaced_file(kind, path))


def load_mask(path: str | Path) -> NDArray[np.uint8]:
    """Return the labels (H, W) of an indexed or grey PNG; `DatasetError` for anything else."""
    return mask_labels(read_path(Path(path)), path)


def mask_labels(content: bytes, path: str | Path) -> NDArray[np.uint8]:
    """Return the labels (H, W) of the bytes of a mask. path: names it in errors."""
    try:
        with _strict():
            return labelmap.decode(content, str(path))
    except BOMB:
        raise _too_large(path) from None


def load_entry_mask(entry: Entry) -> NDArray[np.uint8]:
    """Return the labels (H, W) of an image's mask; `DatasetError` if it is not the indexed file."""
    path = str(entry.mask)
    content = read_path(Path(path))
    labels = mask_labels(content, path)
    _check_content(content, entry.mask_checksum, "mask", path)
    return labels


def load_saliency(entry: Entry) -> NDArray[np.uint8]:
    """Return the saliency (H, W) of an image; `DatasetError` if it is not the indexed file."""
    path = str(entry.saliency)
    content = read_path(Path(path))
    image = _decoded(content, path)
    _check_content(content, entry.saliency_checksum, "saliency map", path)
    return image[..., 0]


def load_truth(entry: Entry, classes: int) -> NDArray[np.uint8]:
    """Return the true labels (H, W) of an image that has a mask.

    Raises:
        DatasetError: the mask is not the indexed one, has another size than the image, or a label
            above `classes`.
    """
    labels = load_entry_mask(entry)
    problem = next(labelmap.misfits(labels, entry.size, classes, str(entry.mask)), None)
    if problem:
        raise DatasetError(problem)
    return labels


def image_size(content: bytes, path: str | Path) -> tuple[int, int]:
    """Return the size (H, W) of an image after EXIF rotation, without decoding the pixels."""
    with _opened(content, path) as picture:
        width, height = picture.size
        turned = picture.getexif().get(ORIENTATION, 1) > 4
    return (width, height) if turned else (height, width)


def probe(path: str | Path) -> tuple[tuple[int, int], list[str]]:
    """Decode an image and return its size (H, W) and a line for each oddity.

    Raises:
        DatasetError: the image cannot be used at all.
    """
    with _opened(read_path(Path(path)), path) as picture:
        # An MPO is a photograph with previews behind it, not an animation.
        frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
        width, height = _rgb(picture).size
    odd = []
    if min(height, width) < MIN_SIDE_PX:
        odd.append(
            f"The image {path} is {width} x {height} px. Use sides of {MIN_SIDE_PX} px or more."
        )
    if frames > 1:
        odd.append(f"The image {path} has {frames} frames. Save the one that you mean as PNG.")
    return (height, width), odd


@contextmanager
def _opened(content: bytes, path: str | Path) -> Iterator[Image.Image]:
    """Open the bytes of an image for a block; whatever is wrong with them is a `DatasetError`."""
    try:
        with _strict(), Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            yield picture
    except UnidentifiedImageError:
        formats = ", ".join(FORMATS)
        if kind := stand_in(content):
            raise DatasetError(f"{path} is not an image but {kind}.") from None
        raise DatasetError(f"{path} is not an image. Replace it by a file of {formats}.") from None
    except BOMB:
        raise _too_large(path) from None
    except BROKEN as error:
        reason = " ".join(str(error).split())
        raise DatasetError(f"The image {path} is damaged ({reason}). Replace the file.") from None


@contextmanager
def _strict() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # odd EXIF
        yield


def _too_large(path: str | Path) -> DatasetError:
    limit = (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
    return DatasetError(f"The image {path} has more than {limit} million pixels. Make it smaller.")


def _rgb(picture: Image.Image) -> Image.Image:
    picture.seek(0)
    picture.load()
    upright = ImageOps.exif_transpose(picture)
    if upright.mode in DEEP_MODES:
        deep = np.clip(np.asarray(upright, np.int64), 0, 65535)
        return Image.fromarray(((deep + 128) // 257).astype(np.uint8)).convert("RGB")
    if upright.mode == "F":
        raise ValueError("floating point; save it with 8 bits per channel")
    if "transparency" in upright.info or upright.mode in ("LA", "PA", "La", "RGBA", "RGBa"):
        layer = upright.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return upright.convert("RGB")


class LabelReader:
    """Reads the labels of images from an archive with one palette PNG for each."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __call__(self, entry: Entry) -> NDArray[np.uint8]:
        """Return the labels (H, W) of an image."""
        name = f"{entry.name}.png"
        return labelmap.decode(self._reader.read(name), f"{self._reader.path}/{name}")


# Grain compresses badly, so PNGs are compressed lightly. A JPEG is a third as large and read faster.
SAVE_OPTIONS: dict[str, dict[str, int]] = {
    "png": {"compress_level": 1},
    "jpg": {"quality": 95, "subsampling": 0},
}


def encode_image(image: NDArray[np.uint8], suffix: str) -> bytes:
    """Return an image (H, W, 3) as the bytes of a file; `suffix` is a key of SAVE_OPTIONS."""
    buffer = io.BytesIO()
    kind = "JPEG" if suffix == "jpg" else "PNG"
    Image.fromarray(image).save(buffer, kind, **SAVE_OPTIONS[suffix])
    return buffer.getvalue()
