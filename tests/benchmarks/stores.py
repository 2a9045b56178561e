"""What is kept between stages, and what a job costs before it does anything."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from measure import Row
from numpy.typing import NDArray
from PIL import Image

from wsss.storage import archive
from wsss.storage.cam_archive import Cam, CamReader, enlarge, grid, pack

IMAGES, SIZE, STRIDE = 50, (375, 500), 4
STARTS = 8


def cam_store() -> Iterator[Row]:
    """Keep the CAMs of 50 images: dictionaries of whole float32 maps against the store."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generator = np.random.default_rng(0)
        made = [_maps(generator) for _ in range(IMAGES)]
        with archive.Writer(folder / "cam.zip") as writer:
            for number, (labels, maps) in enumerate(made):
                whole = enlarge(maps, SIZE, STRIDE)
                own = dict(zip(labels.tolist(), whole, strict=True))
                np.save(folder / f"{number}.npy", np.array(own, dtype=object), allow_pickle=True)
                cam = Cam(labels, maps.astype(np.float16), SIZE, STRIDE)
                writer.add(f"{number}.npz", pack(cam))
        plain = sum(path.stat().st_size for path in folder.glob("*.npy"))
        ours = (folder / "cam.zip").stat().st_size
        largest = max(_difference(folder, number) for number in range(IMAGES))
    if largest > 1e-3:
        raise SystemExit(f"the stored maps differ by {largest:.2g}")
    setting = f"{IMAGES} images of 375x500, 1 to 3 classes"
    said = f"equal to {largest:.0e}"
    yield Row("CAMs on disk", setting, "MB", plain / 1e6, ours / 1e6, None, said, 20)


def _maps(generator: np.random.Generator) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    labels = np.sort(generator.choice(20, generator.integers(1, 4), replace=False))
    height, width = grid(SIZE, STRIDE)
    coarse = generator.random((len(labels), 24, 32)).astype(np.float32)
    maps = [
        Image.fromarray(part).resize((width, height), Image.Resampling.BILINEAR) for part in coarse
    ]
    return labels.astype(np.int16), np.stack([np.asarray(part) for part in maps])


def _difference(folder: Path, number: int) -> float:
    own = np.load(folder / f"{number}.npy", allow_pickle=True).item()
    cam = CamReader(folder / "cam.zip")[str(number)]
    return float(np.abs(np.stack(list(own.values())) - cam.full()).max())


def job_start() -> Iterator[Row]:
    """Start jobs: every library the pipeline has against what the stage needs."""
    everything = "import torch, timm, numpy, scipy, pandas, sklearn, matplotlib, PIL.Image"
    stages = ("evaluate", "pseudo", "walk", "localize")
    programs = [everything, *(f"import wsss.stages.{stage}" for stage in stages)]
    turns = [[_seconds(program) for program in programs] for _ in range(STARTS)]
    plain, *least = (min(times) for times in zip(*turns, strict=True))
    for stage, ours in zip(stages, least, strict=True):
        setting = f"python -m wsss {stage}"
        yield Row(f"start of {stage}", setting, "s", plain, ours, None, "imports alone", 1)


def _seconds(program: str) -> float:
    """Return the processor time of a start of Python with a program."""
    before = os.times()
    subprocess.run([sys.executable, "-c", program], check=True)
    after = os.times()
    spent = after.children_user + after.children_system
    return spent - before.children_user - before.children_system
