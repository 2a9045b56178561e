"""Dense CRF: all 21 classes in one process against the present ones in one and in two."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measure import measure, report
from numpy.typing import NDArray
from PIL import Image

from wsss import crf

IMAGES, SIZE, CLASSES, PRESENT = 24, (375, 500), 21, (0, 5, 15)


def jobs(folder: Path, preset: str) -> list[Path]:
    """Write pictures with smooth scores of three classes; return their files, as a stage has them."""
    generator = np.random.default_rng(len(preset))
    found = []
    for number in range(IMAGES):
        coarse = generator.random((3 + len(PRESENT), 12, 16)).astype(np.float32)
        smooth = np.stack(
            [
                np.asarray(Image.fromarray(part).resize(SIZE[::-1], Image.Resampling.BICUBIC))
                for part in coarse
            ]
        ).clip(0, 1)
        noise = generator.normal(0, 6, (*SIZE, 3))
        picture = np.clip(smooth[:3].transpose(1, 2, 0) * 220 + noise, 0, 255).astype(np.uint8)
        found.append(folder / f"{preset}{number}.npz")
        np.savez(found[-1], picture=picture, scores=smooth[3:] / (smooth[3:].sum(0) + 1e-3))
    return found


def everything(preset: str, path: Path) -> NDArray[np.uint8]:
    """Return the labels of one image with rows for all classes."""
    with np.load(path) as own:
        scores = np.zeros((CLASSES, *SIZE), np.float32)
        scores[list(PRESENT)] = own["scores"]
        return crf.refine_scores(own["picture"], scores, preset).argmax(0).astype(np.uint8)


def present(preset: str, path: Path) -> NDArray[np.uint8]:
    """Return the labels of one image with rows for its own classes."""
    with np.load(path) as own:
        chosen = crf.refine_scores(own["picture"], own["scores"], preset).argmax(0)
        return np.array(PRESENT, np.uint8)[chosen]


def everywhere(
    work: Callable[[Path], NDArray[np.uint8]], images: list[Path], processes: int
) -> list[NDArray[np.uint8]]:
    """Return the labels of all images."""
    return list(crf.spread(work, images, processes))


def dense_crf() -> None:
    """Compare for two parameter sets, with one and with two processes."""
    for preset in ("psa", "deeplab_msc"):
        with tempfile.TemporaryDirectory() as folder:
            _compare(preset, jobs(Path(folder), preset))


def _compare(preset: str, work: list[Path]) -> None:
    plain = measure(everywhere, functools.partial(everything, preset), work, 1)
    for processes in (1, 2):
        # The pool's start (once per stage) is part of what is timed.
        ours = measure(everywhere, functools.partial(present, preset), work, processes)
        other = float(np.mean([a != b for a, b in zip(plain.result, ours.result, strict=True)]))
        if other > 1e-4:  # ties alone: absent labels have a probability of 1e-5, not 0
            raise SystemExit(f"{preset}: {other:.2%} of the restricted labels differ")
        name = f"CRF {preset}, {IMAGES} images, 3 of 21 classes, {processes} process(es)"
        report(name, plain, ours, f"labels equal but for {other:.0e} of the pixels", wall=True)
