"""Random numbers that depend only on a seed and a purpose. Imports no torch."""

from __future__ import annotations

import hashlib

import numpy as np


def rng(seed: int, *scope: str | int) -> np.random.Generator:
    """Return a generator for one purpose; equal seed and scope give equal numbers."""
    return np.random.default_rng(number(seed, *scope))


def number(seed: int, *scope: str | int) -> int:
    """Return a 63-bit integer that depends only on the seed and the scope."""
    digest = hashlib.sha256(repr((seed, *scope)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
