"""The objects of the drawn dataset: outlines in [-1, 1] x [-1, 1], facing right, y downwards.

Cat, hare and mouse share body and head and differ by their ears; ambulance and taxi share a car and
differ by their sign. Boats are always on water and trains always on rails.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Outline = NDArray[np.float64]
CURVE_POINTS = 28  # corners of a drawn ellipse


@dataclass(frozen=True)
class Piece:
    """A polygon (points, 2) of x and y. paint: one of PAINTS, or the object's "body" or "second"."""

    outline: Outline
    paint: str
    is_part: bool = False


@dataclass(frozen=True)
class Figure:
    """A class: its pieces from back to front, and its constant context, if it has one.

    smallest_px: smallest side at which the object, or its telling part, can be recognised.
    """

    name: str
    pieces: tuple[Piece, ...]
    smallest_px: int
    context: str | None = None


PAINTS = {
    "black": (20, 20, 25),
    "white": (245, 245, 245),
    "red": (215, 25, 35),
    "yellow": (250, 210, 20),
    "orange": (240, 130, 30),
    "pink": (250, 120, 160),
    "violet": (120, 50, 200),
    "lime": (150, 240, 60),
    "glass": (170, 205, 225),
    "sail": (240, 235, 215),
}


def ellipse(x: float, y: float, wide: float, high: float, degrees: float = 0.0) -> Outline:
    """Return an ellipse around (x, y) with half axes `wide` and `high`, rotated clockwise."""
    turn = np.linspace(0, 2 * np.pi, CURVE_POINTS, endpoint=False)
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    across, down = wide * np.cos(turn), high * np.sin(turn)
    return np.stack([x + across * cosine - down * sine, y + across * sine + down * cosine], 1)


def box(left: float, top: float, right: float, bottom: float) -> Outline:
    """Return a rectangle."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def polygon(*points: tuple[float, float]) -> Outline:
    """Return a polygon."""
    return np.array(points)


def _inset(outline: Outline) -> Outline:
    """Return an outline of half the size around the same centre."""
    middle = outline.mean(0)
    return np.asarray(middle + 0.5 * (outline - middle))


def _creature(outer: str, inner: str, *ears: Outline) -> tuple[Piece, ...]:
    """Return an animal; only its two-coloured ears, behind the head, tell its class."""
    legs = [box(x, 0.5, x + 0.17, 0.97) for x in (-0.72, -0.42, 0.0, 0.28)]
    return (
        *(Piece(leg, "body") for leg in legs),
        Piece(ellipse(-0.93, 0.22, 0.10, 0.20, 25), "body"),
        Piece(ellipse(-0.22, 0.40, 0.66, 0.36), "body"),
        *(Piece(ear, outer, is_part=True) for ear in ears),
        *(Piece(_inset(ear), inner, is_part=True) for ear in ears),
        Piece(ellipse(0.52, 0.02, 0.40, 0.36), "body"),
        Piece(ellipse(0.64, -0.06, 0.08, 0.08), "black"),
        Piece(ellipse(0.90, 0.10, 0.09, 0.07), "black"),
    )


def _car(*sign: Piece) -> tuple[Piece, ...]:
    """Return a closed car; only the sign on its side tells its class."""
    shell = polygon((-1, -0.55), (0.5, -0.55), (0.78, -0.08), (1, 0.0), (1, 0.45), (-1, 0.45))
    wheels = [ellipse(x, 0.45, 0.22, 0.22) for x in (-0.58, 0.58)]
    return (
        Piece(shell, "body"),
        Piece(polygon((0.26, -0.44), (0.45, -0.44), (0.64, -0.08), (0.26, -0.08)), "glass"),
        *(Piece(wheel, "black") for wheel in wheels),
        *sign,
    )


def _cross() -> tuple[Piece, ...]:
    plate, upright = box(-0.78, -0.44, 0.04, 0.26), box(-0.48, -0.38, -0.26, 0.20)
    beam = box(-0.68, -0.20, -0.06, 0.02)
    return (
        Piece(plate, "white", is_part=True),
        Piece(upright, "red", is_part=True),
        Piece(beam, "red", is_part=True),
    )


def _chequers() -> tuple[Piece, ...]:
    plate = Piece(box(-0.90, -0.44, 0.16, 0.26), "yellow", is_part=True)
    wide, high = 1.06 / 4, 0.70 / 2
    corners = [
        (-0.90 + wide * column, -0.44 + high * row)
        for row in range(2)
        for column in range(4)
        if (row + column) % 2
    ]
    squares = (box(x, y, x + wide, y + high) for x, y in corners)
    return (plate, *(Piece(square, "black", is_part=True) for square in squares))


def _train() -> tuple[Piece, ...]:
    windows = [box(x, -0.28, x + 0.26, 0.02) for x in (-0.84, -0.46, -0.08)]
    wheels = [ellipse(x, 0.45, 0.15, 0.15) for x in (-0.75, -0.38, 0.0, 0.38, 0.72)]
    return (
        Piece(box(0.52, -0.80, 0.72, -0.30), "second"),
        Piece(box(-1, -0.48, 0.34, 0.40), "body"),
        Piece(box(0.30, -0.25, 1, 0.40), "second"),
        *(Piece(window, "glass") for window in windows),
        *(Piece(wheel, "black") for wheel in wheels),
    )


def _boat() -> tuple[Piece, ...]:
    return (
        Piece(box(-0.06, -0.95, 0.02, 0.30), "black"),
        Piece(polygon((0.06, -0.92), (0.80, 0.14), (0.06, 0.14)), "sail"),
        Piece(polygon((-0.10, -0.75), (-0.10, 0.14), (-0.62, 0.14)), "second"),
        Piece(polygon((-1, 0.22), (1, 0.22), (0.70, 0.68), (-0.70, 0.68)), "body"),
    )


CAT_EARS = (
    polygon((0.08, 0.0), (0.02, -0.92), (0.52, -0.22)),
    polygon((0.52, -0.22), (1.00, -0.92), (0.96, 0.0)),
)
HARE_EARS = (ellipse(0.24, -0.56, 0.17, 0.44, -12), ellipse(0.66, -0.56, 0.17, 0.44, 8))
MOUSE_EARS = (ellipse(0.12, -0.42, 0.38, 0.38), ellipse(0.80, -0.42, 0.38, 0.38))

FIGURES = (
    Figure("ambulance", _car(*_cross()), smallest_px=20),
    Figure("boat", _boat(), smallest_px=12, context="water"),
    Figure("cat", _creature("orange", "black", *CAT_EARS), smallest_px=24),
    Figure("hare", _creature("white", "pink", *HARE_EARS), smallest_px=24),
    Figure("mouse", _creature("violet", "lime", *MOUSE_EARS), smallest_px=24),
    Figure("taxi", _car(*_chequers()), smallest_px=20),
    Figure("train", _train(), smallest_px=12, context="rails"),
)
