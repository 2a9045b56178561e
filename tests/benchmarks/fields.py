"""Dense CRF: all 21 classes against the present ones, and one process against two."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measure import measure, report
from numpy.typing import NDArray
from PIL import Image

from wsss import crf

IMAGES, FEW = {"psa": 64, "deeplab_msc": 32}, 8
SIZE, CLASSES, PRESENT = (375, 500), 21, (0, 5, 15)


def jobs(folder: Path, preset: str) -> list[Path]:
    """Write pictures with smooth scores of three classes; return their files, as a stage has them."""
    generator = np.random.default_rng(len(preset))
    found = []
    for number in range(IMAGES[preset]):
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
    """Compare for two parameter sets: all labels with the present ones, one process with two."""
    for preset in IMAGES:
        with tempfile.TemporaryDirectory() as folder:
            work = jobs(Path(folder), preset)
            _labels(preset, work[:FEW])
            _processes(preset, work)


def _labels(preset: str, work: list[Path]) -> None:
    plain = measure(everywhere, functools.partial(everything, preset), work, 1)
    ours = measure(everywhere, functools.partial(present, preset), work, 1)
    other = float(np.mean([a != b for a, b in zip(plain.result, ours.result, strict=True)]))
    if other > 1e-4:  # ties alone: absent labels have a probability of 1e-5, not 0
        raise SystemExit(f"{preset}: {other:.2%} of the restricted labels differ")
    name = f"CRF {preset}, {len(work)} images, 3 of 21 classes against all"
    report(name, plain, ours, f"labels equal but for {other:.0e} of the pixels", wall=True)


def _processes(preset: str, work: list[Path]) -> None:
    """Compare on as many images as a small shard has: the pool's start is part of what is timed."""
    plain = measure(everywhere, functools.partial(present, preset), work, 1)
    ours = measure(everywhere, functools.partial(present, preset), work, 2)
    if any((a != b).any() for a, b in zip(plain.result, ours.result, strict=True)):
        raise SystemExit(f"{preset}: two processes give other labels than one")
    name = f"CRF {preset}, {len(work)} images, 2 processes against 1"
    report(name, plain, ours, "labels equal; memory of the parent process alone", wall=True)
