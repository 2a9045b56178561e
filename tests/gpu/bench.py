"""What the measurements on a GPU share: photographs at VOC's sizes, runs with few steps, a clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made_run import make_dataset
from PIL import Image
from pydantic import BaseModel
from sklearn.datasets import load_sample_image

from wsss.data import labelmap
from wsss.data.index import Entry, Index
from wsss.runs.run import Run, planned_runs
from wsss.settings import AugmentParams, Params, TrainParams, method_spec
from wsss.settings.resolve import load_params
from wsss.storage.files import checksum

ROOT = Path(__file__).parents[2]
PHOTOGRAPHS = ("china.jpg", "flower.jpg")  # of scikit-learn
SIZES = ((375, 500), (500, 375), (333, 500), (375, 500))  # the commonest of VOC
SMALL_SIZES = ((48, 64), (64, 48))
CLASSES = tuple(f"class {number}" for number in range(20))
# Steps at which parts of a method begin, so that a few steps have all of them.
BEGINNINGS = {
    "contrast_from": 1,
    "decoder_from": 2,
    "prototypes_from": 2,
    "last_layer_crops_from": 3,
    "fim_first": 0,
    "fim_images": 1,
}


@dataclass(frozen=True)
class Bench:
    """What is measured on what: settings of full size, or of toy size for a try on a processor.

    deadline: time of `time.monotonic()` after which nothing more is begun.
    """

    params: Params
    dataset: str
    is_small: bool
    workers: int
    steps: int
    images: int
    deadline: float

    @classmethod
    def of(cls, small: bool, workers: int, budget_s: float, images: int) -> Bench:
        """Return the settings of VOC, or the toys of the smoke run. images: for training, at full size."""
        name, dataset = ("smoke", "shapes") if small else ("voc12", "voc12")
        params = load_params([ROOT / "params" / f"{name}.yaml"])
        if small:
            specs = {method: method_spec.spec(method) for method in method_spec.methods()}
            methods = [method for method, spec in specs.items() if not spec.localizes]
            params = params.model_copy(update={"methods": tuple(methods)})
        steps, images = (3, 8) if small else (8, images)
        deadline = time.monotonic() + budget_s
        return cls(params, dataset, small, workers, steps, images, deadline)

    @property
    def has_time(self) -> bool:
        """Whether something more may begin."""
        return time.monotonic() < self.deadline

    def draw(self, folder: Path) -> Index:
        """Write photographs with coloured boxes as objects, and the index of the dataset."""
        sizes = SMALL_SIZES if self.is_small else SIZES
        names = CLASSES[:4] if self.is_small else CLASSES
        generator = np.random.default_rng(0)
        entries = [
            _picture(folder, number, "train" if number < self.images else "val", sizes, generator)
            for number in range(self.images + 8)
        ]
        labelled = tuple(_named(entry, numbers, names) for entry, numbers in entries)
        return make_dataset(Index(self.dataset, names, labelled), self.dataset, self.params, names)

    def runs(self, methods: list[str]) -> list[Run]:
        """Return one run of each method and protocol with few steps, published settings first."""
        runs = [run for run in planned_runs(self.params) if run.seed == self.params.seeds[0]]
        chosen = [run for run in runs if not methods or run.method in methods]
        chosen.sort(key=lambda run: run.protocol != "published")
        return [self.with_settings(run, {}) for run in chosen]

    def with_settings(self, run: Run, changes: dict[str, Any]) -> Run:
        """Return a run with random weights and few steps. changes: of its networks' settings."""
        settings = self._shortened(run.settings)
        networks = {name: changed(net, changes) for name, net in settings.networks.items()}
        new = Run(run.params, run.dataset, run.method, run.protocol, run.seed)
        new.__dict__["settings"] = settings.model_copy(update={"networks": networks})
        return new

    def _shortened(self, value: Any) -> Any:
        """Return settings with random weights, few steps, and parts of methods that begin early."""
        if isinstance(value, dict):
            return {key: self._shortened(part) for key, part in value.items()}
        if not isinstance(value, BaseModel):
            return value
        names = type(value).model_fields
        short = {name: self._shortened(getattr(value, name)) for name in names}
        if short.get("weights") in ("imagenet", "clip", "dinov2"):
            short["weights"] = "none"
        if short.get("text") == "words":
            short["text"] = "mean_features"
        if "initial_file" in short:
            short["initial_file"] = None
        if isinstance(value, TrainParams):
            short |= {"steps": self.steps, "workers": self.workers, "save_seconds": 100_000}
        if isinstance(value, AugmentParams) and self.is_small:
            short["crop_px"] = 64  # PCSS needs an even number of blocks of 16 px
        short |= {key: number for key, number in BEGINNINGS.items() if key in short}
        return value.model_copy(update=short)


def changed(settings: Any, changes: dict[str, Any]) -> Any:
    """Return settings with other values; a dictionary changes the settings below its key."""
    values = {
        key: changed(getattr(settings, key), value) if isinstance(value, dict) else value
        for key, value in changes.items()
    }
    return settings.model_copy(update=values)


def _picture(
    folder: Path,
    number: int,
    split: str,
    sizes: tuple[tuple[int, int], ...],
    generator: np.random.Generator,
) -> tuple[Entry, list[int]]:
    """Write a photograph (JPEG) and its mask; return its entry without labels, and their numbers."""
    height, width = sizes[number % len(sizes)]
    photograph = Image.fromarray(load_sample_image(PHOTOGRAPHS[number % len(PHOTOGRAPHS)]))
    image = np.array(photograph.resize((width, height)))
    mask = np.zeros((height, width), np.uint8)
    labels = sorted(generator.choice(4 if height < 100 else 20, 2, replace=False).tolist())
    for label in labels:
        top, left = (int(generator.integers(0, length // 2)) for length in (height, width))
        box = slice(top, top + height // 3), slice(left, left + width // 3)
        mask[box] = label + 1
        image[box] = image[box] // 2 + np.array([label * 6, 120 - label * 6, 60], np.uint8)
    path = folder / f"{number:04d}.jpg"
    Image.fromarray(image).save(path, quality=92)
    path.with_suffix(".png").write_bytes(labelmap.encode(mask))
    digits, truth = (checksum(p.read_bytes()) for p in (path, path.with_suffix(".png")))
    present = [label for label in labels if (mask == label + 1).any()]
    size, masked = (height, width), str(path.with_suffix(".png"))
    entry = Entry(path.stem, str(path), masked, (), split, size, digits, mask_checksum=truth)
    return entry, present


def _named(entry: Entry, numbers: list[int], names: tuple[str, ...]) -> Entry:
    return replace(entry, labels=tuple(names[number] for number in numbers))


def finished() -> None:
    """Wait until the GPU has done what was asked of it."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def memory_gib() -> float | None:
    """Return the largest memory since the last call, in GiB; None without a GPU."""
    if not torch.cuda.is_available():
        return None
    largest = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    return float(largest)


def seconds(work: Callable[[], object], repeats: int, warm_up: int) -> float:
    """Return the median time of a piece of work, the GPU's part included."""
    times = []
    for number in range(warm_up + repeats):
        finished()
        began = time.perf_counter()
        work()
        finished()
        if number >= warm_up:
            times.append(time.perf_counter() - began)
    return float(np.median(times))


def table(heading: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> list[str]:
    """Return lines of a table in Markdown; the first two columns are words, the others numbers."""
    marks = ["---" if number < 2 else "--:" for number in range(len(heading))]
    return [f"| {' | '.join(cells)} |" for cells in (heading, tuple(marks), *rows)]
