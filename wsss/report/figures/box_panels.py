"""Panels of validation images with their true boxes and the box of the best class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from wsss.data.images import load_entry
from wsss.data.index import Entry, Index
from wsss.report.figures.panels import Picture, Row, chosen, sheet
from wsss.runs.run import Run
from wsss.scores.boxes import Box, true_boxes
from wsss.storage.archive import Reader, unpack_arrays

# Colours of a true box, of a predicted one, and of a predicted one of a wrong class.
TRUE, PREDICTED, OTHER = (40, 190, 90), (230, 40, 60), (120, 120, 120)


def boxes_panel(run: Run, index: Index, names: Sequence[str]) -> Image.Image:
    """Return a panel of validation images: the true boxes (green), and the one of the best class (red)."""
    reader = Reader(run.path("boxes.zip"))

    def cells(entry: Entry) -> Row:
        arrays = unpack_arrays(reader.read(f"{entry.name}.npz"))
        side, image = int(arrays["side"]), load_entry(entry)
        true = outlined(image, true_boxes(entry, index, side), TRUE, side)
        best, label = arrays["boxes"].tolist()[0], arrays["classes"].tolist()[0]
        colour = PREDICTED if index.classes[label] in entry.labels else OTHER
        predicted = outlined(image, [best], colour, side)
        overlaid = outlined(true, [best], PREDICTED, side)
        return Row(image, [true, predicted, overlaid])

    heads = ("image", "true boxes", "predicted (grey: other class)", "true and predicted")
    return sheet(index, heads, [cells(entry) for entry in chosen(index, names)])


def outlined(
    image: Picture, boxes: Sequence[Box], colour: tuple[int, int, int], side: int
) -> Picture:
    """Return the image (H, W, 3) with boxes; their coordinates are in a square of `side` pixels."""
    drawn = Image.fromarray(image)
    pen = ImageDraw.Draw(drawn)
    height, width = image.shape[:2]
    for left, top, right, bottom in boxes:
        across, down = width / side, height / side
        corners = (left * across, top * down, right * across, bottom * down)
        pen.rectangle(corners, outline=colour, width=max(1, min(height, width) // 96))
    return np.asarray(drawn)
