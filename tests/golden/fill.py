"""Weights and pictures that arise from names and seeds alone, so no checkpoint has to be shipped."""

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _stream(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def tensor(key: str, shape: Sequence[int]) -> NDArray[Any]:
    """Return the tensor called `key`: its values depend on its name and shape alone."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    drawn = _stream(zlib.crc32(key.encode())).standard_normal(tuple(shape) or (1,))
    return _scaled(key, drawn.reshape(tuple(shape))).astype(np.float32)


def _scaled(key: str, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    if key.endswith("running_var"):
        return 0.75 + 0.5 * np.abs(np.tanh(drawn))
    if key.endswith("running_mean"):
        return 0.1 * drawn
    if drawn.ndim <= 1:
        return 1 + 0.1 * drawn if key.endswith(("weight", "gamma")) else 0.1 * drawn
    if drawn.ndim == 2:
        return drawn / math.sqrt(drawn.shape[1])
    if drawn.ndim == 4 and len(drawn) > 1:
        return drawn * math.sqrt(2 / math.prod(drawn.shape[1:]))
    return 0.2 * drawn


def state(manifest: Mapping[str, Sequence[int]]) -> dict[str, NDArray[Any]]:
    """Return every tensor of a manifest {key: shape}."""
    return {key: tensor(key, shape) for key, shape in manifest.items()}


def image(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return a picture (height, width, 3): colour waves, a bright disc and noise."""
    draw = _stream(seed)
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    canvas = np.zeros((height, width, 3))
    for channel in range(3):
        for _ in range(4):
            down, right = draw.uniform(-6, 6), draw.uniform(-6, 6)
            phase, strength = draw.uniform(0, 2 * np.pi), draw.uniform(10, 40)
            wave = np.sin(2 * np.pi * (down * rows + right * columns) + phase)
            canvas[..., channel] += strength * wave
    centre = draw.uniform(0.3, 0.7) * rows.max(), draw.uniform(0.3, 0.7) * columns.max()
    radius = draw.uniform(0.1, 0.25)
    disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius * radius
    canvas += 128 + 60 * disc[..., None] * draw.uniform(-1, 1, 3)
    canvas += draw.normal(0, 6, canvas.shape)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
