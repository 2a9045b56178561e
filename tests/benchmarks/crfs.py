"""The dense CRF: over all labels and over the present or probable ones, in one process and in two.

Without PyTorch, as the stages that call the CRF: worker processes import this file.
"""

import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from measure import Row, compare, row
from numpy.typing import NDArray
from PIL import Image

from wsss.refine import crf

IMAGES, FEW = {"psa": 48, "deeplab_msc": 12}, 4
SIZE, CLASSES, PRESENT = (375, 500), 21, (0, 5, 15)
WHY = "The start of the processes is part of it, and they share the memory's bandwidth."
MANY, LIKELY = 81, 8  # labels of COCO, and those that a segmenter considers in an image


def jobs(folder: Path, preset: str, count: int) -> list[Path]:
    """Write pictures with smooth scores of three classes; return their files, as a stage has them."""
    generator = np.random.default_rng(len(preset))
    found = []
    for number in range(count):
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


def dense_crf() -> Iterator[Row]:
    """Compare for two parameter sets: all labels with the present ones, one process with two."""
    yield _considered("deeplab_msc")
    for preset in IMAGES:
        with tempfile.TemporaryDirectory() as folder:
            work = jobs(Path(folder), preset, IMAGES[preset])
            yield _labels(preset, work[:FEW])
            yield _processes(preset, work)


def _labels(preset: str, work: list[Path]) -> Row:
    plain, ours = compare(
        lambda: everywhere(functools.partial(everything, preset), work, 1),
        lambda: everywhere(functools.partial(present, preset), work, 1),
        rounds=4,
    )
    other = float(np.mean([a != b for a, b in zip(plain.result, ours.result, strict=True)]))
    if other > 1e-4:  # ties alone: absent labels have a probability of 1e-5, not 0
        raise SystemExit(f"{preset}: {other:.2%} of the restricted labels differ")
    said = f"labels equal but for {other:.0e} of the pixels"
    setting = f"{len(work)} images of 375x500, 3 of 21 classes"
    return row(f"CRF {preset}, present classes", setting, (plain, ours), said, goal=1)


def _considered(preset: str) -> Row:
    """Compare for a segmenter's probabilities: all labels of COCO with those that are considered."""
    generator = np.random.default_rng(0)
    height, width = SIZE
    logits = np.full((MANY, height, width), -8.0, np.float32)
    for label in range(LIKELY):
        coarse = Image.fromarray(generator.normal(0, 3, (9, 12)).astype(np.float32))
        logits[label] = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    scores = np.exp(logits - logits.max(0))
    scores /= scores.sum(0)
    from sklearn.datasets import load_sample_image  # noqa: PLC0415

    picture = np.array(Image.fromarray(load_sample_image("flower.jpg")).resize((width, height)))
    both = compare(
        lambda: crf.refine_scores(picture, scores, preset).argmax(0),
        lambda: crf.refine(crf.score_task("", picture, scores), preset).after[0],
        rounds=5,
    )
    other = float((both[0].result != both[1].result).mean())
    if other > 1e-3:
        raise SystemExit(f"{preset}: {other:.2%} of the labels differ")
    said = f"labels equal but for {other:.0e} of the pixels"
    setting = f"a photograph of 375x500, {LIKELY} of {MANY} labels probable"
    return row(f"CRF {preset}, probable labels", setting, both, said, goal=1)


def _processes(preset: str, work: list[Path]) -> Row:
    """Compare on as many images as a small shard has: the pool's start is part of what is timed."""
    plain, ours = compare(
        lambda: everywhere(functools.partial(present, preset), work, 1),
        lambda: everywhere(functools.partial(present, preset), work, 2),
        rounds=3,
    )
    if any((a != b).any() for a, b in zip(plain.result, ours.result, strict=True)):
        raise SystemExit(f"{preset}: two processes give other labels than one")
    setting = f"{len(work)} images of 375x500"
    what = f"CRF {preset}, two processes"
    return row(what, setting, (plain, ours), "labels equal", wall=True, goal=1.7, why=WHY)
