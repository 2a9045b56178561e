"""Panels: sheets with a row for each image and a column for each of its pictures."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from wsss.data import labelmap
from wsss.data.images import load_entry_mask
from wsss.data.index import Entry, Index
from wsss.errors import DatasetError
from wsss.storage.archive import Reader
from wsss.storage.cam_archive import Cam

Picture = NDArray[np.uint8]  # (H, W, 3), RGB
Labels = NDArray[np.uint8]  # (H, W), 0 background, 255 for no label

CELL = 256  # longest side of a picture in a panel, pixels
GAP = 8  # space between pictures, pixels
HEAD = 30  # height of column heads of one line, pixels
HEAD_LINE = 18  # height of each further line, pixels
CHARACTER = 8  # width that a character of a column head takes, pixels
LINE = 26  # height of a line of the key, pixels
FONT = 14  # pixels
STRENGTH = 0.7  # opacity of a label's colour over the image, in [0, 1]
PALENESS = 0.45  # contrast of the background; low, so that even grey classes stand out
NAME_LENGTH = 24  # characters of a class name that are shown
PAPER, INK, NOTHING = (255, 255, 255), (28, 39, 51), (238, 241, 244)
EDGE = (205, 211, 217)  # around each picture: one without any label is white
OPEN = (255, 255, 255)  # colour of pixels with label 255


def choose(names: Iterable[str], count: int) -> list[str]:
    """Return `count` names, or all, spread evenly over the sorted list."""
    ordered = sorted(names)
    number = min(count, len(ordered))
    return [ordered[(2 * k + 1) * len(ordered) // (2 * number)] for k in range(number)]


def overlay(image: Picture, labels: Labels, strength: float = STRENGTH) -> Picture:
    """Return the image in pale grey, with every labelled pixel in the colour of its class.

    image: (H, W, 3). labels: (H, W), 0 for background; pixels with label 255 become white.
    strength: opacity of the colours, in [0, 1].
    """
    if image.shape[:2] != labels.shape:
        raise DatasetError(f"labels of {labels.shape} do not fit an image of {image.shape[:2]}")
    colours = np.array(labelmap.palette(), np.float32).reshape(256, 3)
    grey = np.repeat(image.mean(-1, keepdims=True), 3, axis=2)
    pale = 255 - PALENESS * (255 - grey)
    tinted = (1 - strength) * grey + strength * colours[labels]
    tinted[labels == labelmap.IGNORE] = OPEN
    mixed = np.where((labels == labelmap.BACKGROUND)[..., None], pale, tinted)
    return np.asarray(mixed.round(), np.uint8)


def heat(image: Picture, scores: NDArray[np.floating]) -> Picture:
    """Return the image (H, W, 3) under a heat map: score (H, W) 0 is dark, 1 is bright."""
    import matplotlib as mpl  # noqa: PLC0415  # heavy, and only needed here

    warm = mpl.colormaps["inferno"](np.clip(scores, 0, 1))[..., :3] * 255
    grey = image.mean(-1, keepdims=True)
    return np.asarray((0.35 * grey + 0.65 * warm).round(), np.uint8)


def heat_of(image: Picture, cam: Cam) -> Picture:
    """Return the image under a heat map of the largest score of its present classes."""
    maps = cam.full()
    return heat(image, maps.max(0) if len(maps) else np.zeros(cam.size, np.float32))


@dataclass(frozen=True)
class Row:
    """The pictures of one image in a panel, in the order of its columns.

    drawn: finished pictures. labels: labels to be laid over the image; None if it has no mask.
    """

    image: Picture
    drawn: Sequence[Picture] = ()
    labels: Sequence[Labels | None] = ()

    def pictures(self) -> list[Picture]:
        """Return the pictures of all columns; a missing mask is an empty picture."""
        blank = np.full_like(self.image, NOTHING)
        tinted = [
            blank if pixels is None else overlay(self.image, pixels) for pixels in self.labels
        ]
        return [self.image, *self.drawn, *tinted]

    def classes(self) -> set[int]:
        """Return the labels that occur in the row."""
        arrays = [pixels for pixels in self.labels if pixels is not None]
        return {int(label) for pixels in arrays for label in np.unique(pixels)}


def chosen(index: Index, names: Sequence[str]) -> list[Entry]:
    """Return the images called `names`."""
    entries = {entry.name: entry for entry in index.images}
    unknown = [name for name in names if name not in entries]
    if unknown:
        raise DatasetError(f"{index.dataset} has no image {unknown[0]!r}. Name one of its index.")
    return [entries[name] for name in names]


def read_labels(reader: Reader, entry: Entry) -> Labels:
    """Return the labels (H, W) of an image in an archive of label images."""
    name = f"{entry.name}.png"
    return labelmap.decode(reader.read(name), f"{reader.path}/{name}")


def read_truth(entry: Entry) -> Labels | None:
    """Return the true labels (H, W) of an image, if it has a mask."""
    return None if entry.mask is None else load_entry_mask(entry)


def sheet(index: Index, heads: Sequence[str], rows: Sequence[Row]) -> Image.Image:
    """Lay out rows of pictures under column heads; below, a key of the classes that occur."""
    lines = [[_fit(picture) for picture in row.pictures()] for row in rows]
    present = sorted({label for row in rows for label in row.classes()} - {labelmap.BACKGROUND})
    heights = [max(picture.height for picture in line) for line in lines]
    side = max([CELL // 2, *(picture.width for line in lines for picture in line)])
    width = len(heads) * (side + GAP) + GAP
    key = _key_lines(index, present, width)
    titles = ["\n".join(textwrap.wrap(head, side // CHARACTER)) for head in heads]
    top = HEAD + HEAD_LINE * max(title.count("\n") for title in titles)
    total = top + sum(heights) + GAP * (len(heights) + 1) + LINE * len(key)
    sheet = Image.new("RGB", (width, total), PAPER)
    pen = ImageDraw.Draw(sheet)
    for place, title in enumerate(titles):
        middle = (GAP + place * (side + GAP) + side // 2, top // 2)
        pen.text(middle, title, INK, _font(), "mm", align="center")
    for line, height in zip(lines, heights, strict=True):
        for place, picture in enumerate(line):
            left = GAP + place * (side + GAP) + (side - picture.width) // 2
            above = top + (height - picture.height) // 2
            outline = (left - 1, above - 1, left + picture.width, above + picture.height)
            pen.rectangle(outline, outline=EDGE)
            sheet.paste(picture, (left, above))
        top += height + GAP
    _draw_key(pen, key, top)
    return sheet


def _fit(picture: Picture) -> Image.Image:
    """Enlarge a small picture by a whole factor, so that pixels stay sharp; reduce a large one."""
    height, width = picture.shape[:2]
    longest = max(height, width)
    factor = CELL // longest if longest <= CELL else CELL / longest
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    kernel = Image.Resampling.NEAREST if longest <= CELL else Image.Resampling.LANCZOS
    return Image.fromarray(picture).resize(size, kernel)


Item = tuple[int, tuple[int, ...], str]  # left edge, colour, name


def _key_lines(index: Index, present: Sequence[int], width: int) -> list[list[Item]]:
    """Return the colours and names of the classes, broken into lines of `width` pixels."""
    colours = np.array(labelmap.palette()).reshape(256, 3)
    lines: list[list[Item]] = [[]]
    left = GAP
    for label in present:
        is_open = label == labelmap.IGNORE
        name = "no label" if is_open else _class_name(index, label)
        length = FONT + 6 + int(_font().getlength(name)) + 2 * GAP
        if left + length > width and lines[-1]:
            lines.append([])
            left = GAP
        colour = OPEN if is_open else tuple(int(value) for value in colours[label])
        lines[-1].append((left, colour, name))
        left += length
    return lines


def _class_name(index: Index, label: int) -> str:
    name = index.classes[label - 1] if label <= len(index.classes) else f"label {label}"
    single = " ".join(name.split())
    return single if len(single) <= NAME_LENGTH else single[: NAME_LENGTH - 1] + "…"


def _draw_key(pen: ImageDraw.ImageDraw, key: Sequence[Sequence[Item]], top: int) -> None:
    for number, line in enumerate(key):
        middle = top + number * LINE + LINE // 2
        for left, colour, name in line:
            box = (left, middle - FONT // 2, left + FONT, middle + FONT // 2)
            pen.rectangle(box, colour, INK)
            pen.text((left + FONT + 6, middle), name, INK, _font(), "lm")


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which comes with matplotlib and covers most scripts."""
    import matplotlib as mpl  # noqa: PLC0415  # heavy, and only needed here

    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), FONT)
