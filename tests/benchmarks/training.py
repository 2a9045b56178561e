"""The training loop against its forward and backward passes alone, and images made against wanted."""

import contextlib
import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from measure import Row, compare, difference, row
from PIL import Image
from torch import Tensor

from wsss.data.index import Entry, Index
from wsss.data.workers import Batch
from wsss.inference.trained import normalisation
from wsss.machine.runtime import Runtime
from wsss.methods.cam.method import CamNet
from wsss.randomness import number
from wsss.settings import AugmentParams, TrainParams
from wsss.training.batches import TrainingImages, batches
from wsss.training.loop import Objective, Trainer, Training, fit
from wsss.training.optimizer import parts

IMAGES, SIZE, CROP, CLASSES = 32, (375, 500), 224, 20
BACKBONE, BATCH, STEPS, WORKERS = "resnet18", 8, 16, 1
SEED = 0


class Labels(Objective):
    """A classifier and its loss."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(SEED)
        self.net = CamNet(BACKBONE, 16, CLASSES, 0.5)

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the loss of the labels."""
        scores = self.net(batch["image"])
        return {"labels": F.multilabel_soft_margin_loss(scores, batch["label"])}


def loop() -> Iterator[Row]:
    """Train a classifier both ways: the same batches from memory, and everything the loop does."""
    with tempfile.TemporaryDirectory() as name:
        images, params = photographs(Path(name)), TrainParams(**TRAIN)
        training = Training(Labels(), images, params, SEED, Path(name) / "net.safetensors", {})
        schedule = Trainer(training, Runtime.start()).schedule
        loaded = [images.normalised(batch) for batch in batches(images, schedule, 0, 0)]
        both = compare(lambda: bare(loaded, params), lambda: whole(training), rounds=2)
    said = difference(both[0].result, both[1].result, "weights", 1e-5)
    setting = f"{BACKBONE}, {STEPS} steps of {BATCH}, {CROP} px of 375x500, {WORKERS} loader"
    yield row("training loop, all it does", setting, both, said, wall=True, goal=0.95)


TRAIN = {"steps": STEPS, "batch": BATCH, "workers": WORKERS, "optimizer": "sgd", "lr": 0.01}


def bare(loaded: list[Batch], params: TrainParams) -> Tensor:
    """Return the weights after the passes and the updates alone, on batches in memory."""
    runtime, objective = Runtime.start(), Labels()
    runtime.place(objective)
    (part,) = parts(objective.net, params)
    objective.train()
    for step, batch in enumerate(loaded):
        torch.manual_seed(number(SEED, "step", step, 0))
        part.set_rate(step, STEPS)
        part.optimizer.zero_grad(set_to_none=True)
        loss = objective({**batch, "image": runtime.send(batch["image"])}, step)["labels"]
        loss.backward()
        part.optimizer.step()
    return flat(objective)


def whole(training: Training) -> Tensor:
    """Return the weights after a training with loader, log, resume states and files."""
    training.objective.load_state_dict(Labels().state_dict())
    with contextlib.redirect_stderr(io.StringIO()):
        fit(training, Runtime.start())
    return flat(training.objective)


def flat(objective: Objective) -> Tensor:
    """Return all weights in one row."""
    return torch.cat([weight.detach().flatten() for weight in objective.net.parameters()])


def loader() -> Iterator[Row]:
    """Compare the images that one process makes with those that a training step uses up."""
    with tempfile.TemporaryDirectory() as name:
        images, params = photographs(Path(name)), TrainParams(**TRAIN)
        keys = [(epoch, place) for epoch in range(2) for place in range(IMAGES)]
        began = time.process_time()
        made = [images[key] for key in keys]
        rate = len(keys) / (time.process_time() - began)
        schedule = _schedule(images, params, Path(name) / "x.safetensors")
        loaded = [images.normalised(batch) for batch in batches(images, schedule, 0, 0)][:4]
    began = time.process_time()
    bare(loaded, params)
    used = len(loaded) * BATCH / (time.process_time() - began)
    setting = f"one core each; {CROP} px of JPEG 375x500; {BACKBONE}"
    said = f"{len(made)} images"
    yield Row("loader against training step", setting, "images/s", used, rate, None, said, 1)


def _schedule(images: TrainingImages, params: TrainParams, path: Path) -> Any:
    return Trainer(Training(Labels(), images, params, SEED, path, {}), Runtime.start()).schedule


def photographs(folder: Path) -> TrainingImages:
    """Return training images of smooth JPEG pictures, of the size of VOC's."""
    generator = np.random.default_rng(0)
    classes = tuple(f"class {place}" for place in range(CLASSES))
    entries = []
    for place in range(IMAGES):
        coarse = Image.fromarray(generator.integers(0, 256, (24, 32, 3)).astype(np.uint8))
        path = folder / f"{place}.jpg"
        coarse.resize(SIZE[::-1], Image.Resampling.BICUBIC).save(path, quality=90)
        label = classes[place % CLASSES]
        entries.append(Entry(path.stem, str(path), None, (label,), "train", SIZE, ""))
    normalise = normalisation(Labels().net)
    augmentation = AugmentParams(crop_px=CROP)
    index = Index("photographs", classes, tuple(entries))
    none_kept = 0  # as of VOC, which does not fit
    return TrainingImages(index, entries, augmentation, normalise, SEED, kept_bytes=none_kept)
