"""Drawn pictures with exact masks that show the two problems of weak supervision.

Marks beside the masks show the telling `parts` of objects (partial activation) and their constant
`context` (co-occurrence). A picture depends only on the seed, its split and its number.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsss.data.index import Index
from wsss.data.manifest import Sources
from wsss.data.raw_files import RawFiles
from wsss.datasets.drawn import scene, texture
from wsss.datasets.drawn.outlines import FIGURES, PAINTS, Figure, Outline, Piece
from wsss.datasets.drawn.scene import Bits, Box, Picture
from wsss.randomness import rng
from wsss.settings import ShapesParams

Canvas = NDArray[np.float32]
Size = tuple[int, int]

SIDE_STEP_PX = 16  # few distinct sizes, so that batches can hold images of one size
TWICE = 0.25  # probability that a class of a picture occurs twice in it
LARGEST = 0.70  # side of the largest object over the shorter side of the picture
TURN_DEGREES = 15.0  # largest rotation of objects without a context
CONTRAST = 90.0  # RGB distance between an object's colours and the mean of its background

WATER, FOAM = (45, 110, 190), (150, 205, 235)
SLEEPER, RAIL, GRAVEL = (95, 60, 30), (205, 205, 215), (125, 115, 105)


@dataclass(frozen=True)
class Placed:
    """A figure in a picture: its square box, whether it is mirrored, and its rotation."""

    figure: Figure
    box: Box
    is_mirrored: bool
    degrees: float

    def points(self, outline: Outline) -> list[tuple[float, float]]:
        """Return the points (x, y) of an outline, in pixels of the picture."""
        half = self.box.wide / 2
        x, y = outline.T * half * np.array([[-1.0 if self.is_mirrored else 1.0], [1.0]])
        cosine, sine = np.cos(np.radians(self.degrees)), np.sin(np.radians(self.degrees))
        columns = self.box.left + half + x * cosine - y * sine
        rows = self.box.top + half + x * sine + y * cosine
        return list(zip(columns.tolist(), rows.tolist(), strict=True))


def draw(params: ShapesParams, dataset: str, target: Path, raw: RawFiles | None = None) -> Index:
    """Draw all pictures into the archive `target` and return their index; no raw file is read."""
    compose = functools.partial(picture, params)
    names = [figure.name for figure in FIGURES]
    counts = {"train": params.train, "val": params.val}
    return scene.write(dataset, names, target, counts, compose)


def sources(params: ShapesParams, index: Index) -> Sources:
    """Return no raw file: every picture is drawn."""
    return Sources()


def picture(params: ShapesParams, split: str, number: int) -> Picture:
    """Draw one picture; over all numbers, every class is the first one equally often."""
    generator = rng(params.seed, "shapes", split, number)
    size = _size(params, generator)
    canvas, mask = texture.background(generator, size), np.zeros(size, np.uint8)
    marks = {"context": np.zeros(size, np.bool_), "parts": np.zeros(size, np.bool_)}
    placed = _scene(generator, number, size)
    for item in placed:
        if item.figure.context:
            where = CONTEXTS[item.figure.context](canvas, item, generator)
            marks["context"] |= where
    for item in placed:
        visible, parts = _paint(canvas, item, generator)
        mask[visible] = FIGURES.index(item.figure) + 1
        marks["parts"] = marks["parts"] & ~visible | parts
        marks["context"] &= ~visible
    return Picture(texture.to_bytes(canvas), mask, marks)


def sides(params: ShapesParams) -> list[int]:
    """Return the possible side lengths of pictures, in pixels."""
    first = -(-params.min_px // SIDE_STEP_PX) * SIDE_STEP_PX
    return list(range(first, params.max_px + 1, SIDE_STEP_PX)) or [params.max_px]


def _size(params: ShapesParams, generator: np.random.Generator) -> Size:
    """Choose one of four sizes: small, wide, tall, large."""
    possible = sides(params)
    short, middle, long = possible[0], possible[len(possible) // 3], possible[-1]
    choices = ((middle, middle), (short, long), (long, short), (long, long))
    return choices[generator.integers(len(choices))]


def _scene(generator: np.random.Generator, number: int, size: Size) -> list[Placed]:
    figures = [FIGURES[k] for k in scene.choose_classes(generator, number, len(FIGURES))]
    figures += [figure for figure in figures if generator.random() < TWICE]
    placed: list[Placed] = []
    for figure in figures:
        largest_px = max(figure.smallest_px, LARGEST * min(size))
        side = float(generator.uniform(figure.smallest_px, largest_px))
        degrees = 0.0 if figure.context else float(generator.uniform(-TURN_DEGREES, TURN_DEGREES))
        is_mirrored, occupied = bool(generator.random() < 0.5), [item.box for item in placed]
        box = scene.find_box(generator, (side, side), figure.smallest_px, occupied, size)
        if box:
            placed.append(Placed(figure, box, is_mirrored, degrees))
    return placed


def _paint(canvas: Canvas, item: Placed, generator: np.random.Generator) -> tuple[Bits, Bits]:
    """Paint an object; return the masks (H, W) of the object and of its telling parts."""
    size = (canvas.shape[0], canvas.shape[1])
    masks = [_fill(item.points(piece.outline), size) for piece in item.figure.pieces]
    visible, parts = np.logical_or.reduce(masks), np.zeros(size, np.bool_)
    behind = canvas[visible].mean(0)
    colours = {name: _contrasting(generator, behind) for name in ("body", "second")}
    light = texture.light(generator, size)
    for piece, inside in zip(item.figure.pieces, masks, strict=True):
        canvas[inside] = light[inside] * _colour(piece, colours)
        parts = parts | inside if piece.is_part else parts & ~inside
    return _grained(canvas, visible, generator), parts


def _colour(piece: Piece, colours: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    return (
        colours[piece.paint]
        if piece.paint in colours
        else np.array(PAINTS[piece.paint], np.float32)
    )


def _contrasting(
    generator: np.random.Generator, behind: NDArray[np.float32]
) -> NDArray[np.float32]:
    choices = [texture.colour(generator) for _ in range(8)]
    far = [choice for choice in choices if np.linalg.norm(choice - behind) >= CONTRAST]
    return far[0] if far else max(choices, key=lambda c: float(np.linalg.norm(c - behind)))


def _fill(points: list[tuple[float, float]], size: Size) -> Bits:
    """Return the mask (H, W) of a polygon, without antialiasing."""
    plane = Image.new("1", size[::-1])
    ImageDraw.Draw(plane).polygon(points, fill=1)
    return np.array(plane, np.bool_)


def _water(canvas: Canvas, item: Placed, generator: np.random.Generator) -> Bits:
    """Paint waves across the picture, from the waterline down; return their mask (H, W)."""
    rows, columns = np.mgrid[: canvas.shape[0], : canvas.shape[1]]
    surface = (
        item.box.top + 0.68 * item.box.high + 1.5 * np.sin(columns / 4 + generator.uniform(0, 6))
    )
    where = (rows >= surface) & (rows < surface + max(14.0, 0.6 * item.box.high))
    crest = np.sin((rows + 1.5 * np.sin(columns / 3.0)) * 2 * np.pi / 6) > 0.45
    canvas[where & ~crest] = WATER
    canvas[where & crest] = FOAM
    return _grained(canvas, where, generator)


def _rails(canvas: Canvas, item: Placed, generator: np.random.Generator) -> Bits:
    """Paint rails across the picture, under the wheels; return their mask (H, W)."""
    rows, columns = np.mgrid[: canvas.shape[0], : canvas.shape[1]]
    below = rows - (item.box.top + 0.74 * item.box.high)
    where = (below >= 0) & (below < 12)
    canvas[where] = GRAVEL
    canvas[where & (columns % 8 < 4)] = SLEEPER
    canvas[where & ((below >= 2) & (below < 4) | (below >= 8) & (below < 10))] = RAIL
    return _grained(canvas, where, generator)


def _grained(canvas: Canvas, where: Bits, generator: np.random.Generator) -> Bits:
    canvas[where] += generator.normal(0, texture.GRAIN, (int(where.sum()), 3)).astype(np.float32)
    return where


CONTEXTS: dict[str, Callable[[Canvas, Placed, np.random.Generator], Bits]] = {
    "rails": _rails,
    "water": _water,
}
