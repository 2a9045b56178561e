"""The boxes of validation images for the eye: the true ones, and that of the best class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from wsss.data.images import load_image
from wsss.data.index import Entry, Index
from wsss.report.figures.panels import Picture, Row, chosen, sheet
from wsss.runs.run import Run
from wsss.scores.boxes import Box, true_boxes
from wsss.storage.archive import Reader, unpack_arrays

# Colours of true boxes, of those that were found, and of those of a wrong class.
TRUE, GIVEN, OTHER = (40, 190, 90), (230, 40, 60), (120, 120, 120)


def boxes_panel(run: Run, index: Index, names: Sequence[str]) -> Image.Image:
    """Return a panel of validation images: the true boxes (green), and the one of the best class (red)."""
    reader = Reader(run.path("boxes.zip"))

    def cells(entry: Entry) -> Row:
        found = unpack_arrays(reader.read(f"{entry.name}.npz"))
        side, image = int(found["side"]), load_image(entry.path)
        truth = true_boxes(entry, index, side)
        (best, *_), (label, *_) = found["boxes"].tolist(), found["classes"].tolist()
        right = index.classes[label] in entry.labels
        drawn = {
            "truth": outlined(image, truth, TRUE, side),
            "found": outlined(image, [best], GIVEN if right else OTHER, side),
            "both": outlined(outlined(image, truth, TRUE, side), [best], GIVEN, side),
        }
        return image, drawn, {}

    heads = ("image", "true boxes", "found (grey: other class)", "both")
    return sheet(index, heads, [cells(entry) for entry in chosen(index, names)])


def outlined(
    image: Picture, boxes: Sequence[Box], colour: tuple[int, int, int], side: int
) -> Picture:
    """Return the image (H, W, 3) with boxes that are given in a square of `side` pixels."""
    drawn = Image.fromarray(image)
    pen = ImageDraw.Draw(drawn)
    height, width = image.shape[:2]
    for left, top, right, bottom in boxes:
        across, down = width / side, height / side
        places = (left * across, top * down, right * across, bottom * down)
        pen.rectangle(places, outline=colour, width=max(1, min(height, width) // 96))
    return np.asarray(drawn)
