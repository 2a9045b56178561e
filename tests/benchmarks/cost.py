"""What a dataset costs: the arithmetic of each network stage counted, the rates of the others measured.

    python tests/benchmarks/cost.py voc12 coco14 [--method METHOD] [--page PAGE]

prints a table for each, and writes it into a page. The arithmetic is exact, from the settings of
params/<dataset>.yaml under `common`, for images of a typical size; it is turned into hours by what a GPU is taken to reach. The CRF, the walk
and the scores are timed here, on one core and photographs of that size.
"""

import argparse
import contextlib
import functools
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from page import machine, rewritten
from PIL import Image
from pydantic import BaseModel
from sklearn.datasets import load_sample_image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from wsss import archive, config
from wsss.camstore import Cam, CamReader, enlarge, grid, pack
from wsss.data.augment import Normalisation
from wsss.data.index import Entry, Index
from wsss.data.loader import Schedule, Squares, TrainingImages, batches
from wsss.methods import registry
from wsss.methods.base import Derived, Method
from wsss.metrics import ThresholdCurve, thresholds
from wsss.nets.backbone import Network
from wsss.plan import Run, runs
from wsss.runtime import Runtime
from wsss.stages import affinity, confident, decode, localize, masks, pseudo, segmenter
from wsss.stages import network as stage
from wsss.stages import walk as walking

ROOT = Path(__file__).parents[2]
PAIR = 2  # images that arithmetic is counted on
PHOTOGRAPHS = ("china.jpg", "flower.jpg")  # of scikit-learn
GPU_TFLOPS = 50.0  # a sustained rate that a reader replaces by that of the own machine


@dataclass(frozen=True)
class Dataset:
    """What of a dataset decides about its cost. labels: classes of a typical image."""

    train: int
    val: int
    classes: int
    size: tuple[int, int]
    labels: int


DATASETS = {
    "voc12": Dataset(10_582, 1_449, 20, (375, 500), 2),
    "coco14": Dataset(82_081, 40_137, 80, (480, 640), 3),
}


KNOWN: dict[tuple[Any, ...], tuple["Line", ...]] = {}


@dataclass(frozen=True)
class Line:
    """The cost of a stage: petaflops of networks, seconds of one core."""

    stage: str
    petaflop: float = 0.0
    core_s: float = 0.0


def counted(work: Callable[[], Any]) -> float:
    """Return the floating-point operations of a piece of work, in units of 1e15."""
    with FlopCounterMode(display=False) as counter, contextlib.redirect_stderr(io.StringIO()):
        work()
    return float(counter.get_total_flops()) / 1e15


class Estimate:
    """The costs of one run, stage by stage, on photographs of the dataset's typical size."""

    def __init__(self, run: Run, data: Dataset, folder: Path) -> None:
        self.run, self.data, self.folder = run, data, folder
        self.index = pictures(folder, data)
        self.nets: dict[str, nn.Module] = {}
        self.runtime = Runtime.start("fp32")

    @functools.cached_property
    def method(self) -> Method:
        """The method of the run; one that learns from masks has none."""
        return registry.load(self.run.method)(self.run.settings.networks, self.data.classes)

    def lines(self) -> Iterator[Line]:
        """Yield the costs in the order of the stages; equal ones of several methods are taken once."""
        settings = self.run.settings
        for name in self.run.networks:
            derived = self.run.spec.networks[name].derived
            yield self.derived(name) if derived else self.classifier(name)
        if not self.run.spec.learns_masks:
            yield self.cam()
            yield from [self.decoder()] if self.run.spec.decodes else []
            parts = (settings.affinity, settings.walk, settings.pseudo, settings.evaluation)
            yield from self._once(self.refinement, parts)
        yield from self._once(self.segmentation, (settings.segmenter,))

    def _once(
        self, stages: Callable[[], Iterator[Line]], parts: Sequence[BaseModel]
    ) -> Sequence[Line]:
        key = (self.data, stages.__name__, *(part.model_dump_json() for part in parts))
        if key not in KNOWN:
            KNOWN[key] = tuple(stages())
        return KNOWN[key]

    def images_seen(self, params: Any) -> int:
        """Return how many images a training works on."""
        schedule = Schedule(self.data.train, params.batch, params.epochs, 1, 0, limit=params.steps)
        return int(schedule.steps * params.batch)

    def training(self, net: Network, params: Any, loss: Callable[[Any, int], Any]) -> float:
        """Return the arithmetic of a training: of a step half way, times the images it sees."""
        self.runtime.place(net).train()
        normalise = stage.normalisation(net)
        images = TrainingImages(
            self.index, self.index.images, params.augment, normalise, 0, mask=lambda e: whole(e)
        )
        schedule = Schedule(len(images), PAIR, 1, 1, 0)
        batch = next(batches(images, schedule, 0, 0))
        steps = Schedule(self.data.train, params.train.batch, params.train.epochs, 1, 0).steps
        half = (params.train.steps or steps) // 2

        def step() -> None:
            terms = loss(batch, half)
            torch.stack([term.float() for term in terms.values()]).sum().backward()

        return counted(step) / PAIR * self.images_seen(params.train)

    def classifier(self, name: str) -> Line:
        """Return the cost of training a network of the chain, and of what comes between epochs."""
        net, params = self.method.build(name), self.run.settings.networks[name]
        self.nets[name] = net
        petaflop = self.training(
            net, params, lambda batch, step: self.method.losses(name, self.nets, batch, step)
        )
        rounds = [
            epoch
            for epoch in range(params.train.epochs - 1)
            if self.run.method == "pcss" and self._measures(epoch)
        ]
        if rounds:
            squares = Squares(self.index, self.index.images[:PAIR], stage.normalisation(net), 0)
            first = rounds[0]
            once = counted(
                lambda: self.method.after_epoch(
                    name, self.nets, first, lambda side, count: squares.batches(side, count, 0)
                )
            )
            wanted = min(self.data.train, params.settings["fim_images"] * self.data.classes)
            petaflop += once / PAIR * wanted * len(rounds)
        net.eval().requires_grad_(False)
        return Line(f"training {name}", petaflop)

    def _measures(self, epoch: int) -> bool:
        settings = self.run.settings.networks["classifier"].settings
        after = epoch - settings["fim_first"]
        return after >= 0 and after % settings["fim_every"] == 0

    def derived(self, name: str) -> Line:
        """Return the cost of what is derived from all images instead of trained."""
        net = next(net for net in self.nets.values() if isinstance(net, Network))
        squares = Squares(self.index, self.index.images, stage.normalisation(net), 0)
        found: dict[str, Any] = {}

        def work() -> None:
            with torch.inference_mode():
                source = lambda side, count: squares.in_order(side, count)  # noqa: E731
                found.update(self.method.derive(name, self.nets, source))

        petaflop = counted(work) / len(self.index.images) * self.data.train
        self.nets[name] = Derived({key: value.clone() for key, value in found.items()})
        return Line(f"deriving {name}", petaflop)

    def looked(self, look: Callable[[Any], Any], resizing: Any, params: Any) -> float:
        """Return the arithmetic of looking at one image at every scale, mirrored if it is."""
        picture = [np.zeros((*self.data.size, 3), np.uint8)]
        normalise = Normalisation((0.5,) * 3, (0.5,) * 3)
        total = 0.0
        for scale in params.scales:
            image = resizing(picture, scale, normalise)
            total += counted(lambda image=image: stage.look(look)(image))
        return total * (2 if params.mirror else 1)

    def cam(self) -> Line:
        """Return the cost of the CAMs of all training images."""
        net: Any = self.nets[str(self.run.spec.localizer)]
        params = self.run.settings.cam
        once = self.looked(
            lambda image: self.method.cam(net, image), localize.resizing(params), params
        )
        return Line("CAM inference", once * self.data.train)

    def decoder(self) -> Line:
        """Return the cost of the own decoder's masks of all validation images, with their CRF."""
        net: Any = self.nets[str(self.run.spec.localizer)]
        params = self.run.settings.decoder
        once = self.looked(
            lambda image: self.method.decode(net, image), decode.resizing(params), params
        )
        return Line("own decoder", once * self.data.val, self.refined(params) * self.data.val)

    def refined(self, params: Any) -> float:
        """Return the seconds of one core for deciding on the labels of one image, CRF included."""
        coarse = 3 * torch.randn(1, self.data.classes + 1, 9, 12)
        coarse[:, 1 + 2 * self.data.labels :] = -8.0  # the others are hardly considered
        seen = F.interpolate(coarse, self.data.size, mode="bicubic") * masks.looks(params)
        normalise = Normalisation((0.5,) * 3, (0.5,) * 3)
        return self.timed(lambda entry: masks.decide([entry], seen, params, normalise))

    def timed(self, work: Callable[[Entry], Any]) -> float:
        """Return the seconds of one core for one image."""
        images = self.index.images[:PAIR]
        return sum(seconds(functools.partial(work, entry)) for entry in images) / PAIR

    def refinement(self) -> Iterator[Line]:
        """Yield the costs from CAMs to pseudo labels."""
        settings, count = self.run.settings, self.data.train
        store = self.folder / "cam.zip"
        if settings.pseudo.source == "walk":
            own = settings.affinity.confident
            core = self.timed(lambda entry: confident.label(self.index, store, own, entry))
            yield Line("affinity labels", 0.0, core * count)
            net = affinity.build(self.run)
            objective = affinity.OBJECTIVES[settings.affinity.kind](net, settings.affinity)
            yield Line("training affinity", self.training(net, settings.affinity, objective))
            yield self.walk(net.eval().requires_grad_(False), store)
        channels = self.data.classes + 1
        core = self.timed(lambda entry: pseudo.label(store, settings.pseudo, channels, entry))
        yield Line("pseudo labels", 0.0, core * count)
        curve = ThresholdCurve(channels, thresholds(settings.evaluation.thresholds))
        cams = CamReader(store)

        def score(entry: Entry) -> None:
            cam = cams[entry.name]
            curve.add(whole(entry), cam.full(), cam.labels)

        yield Line("threshold curves", 0.0, self.timed(score) * count * 2)

    def walk(self, net: Network, store: Path) -> Line:
        """Return the cost of the random walk: the network's, and the sparse steps on one core."""
        settings, entry = self.run.settings, self.index.images[0]
        look = walking.observer(net, settings.walk.pad_px)
        seen: list[Any] = []
        picture = torch.randn(1, 3, *self.data.size)
        petaflop = counted(lambda: seen.append(stage.look(look)(picture)[0]))
        stride: Any = net.stride
        cam = CamReader(store)[entry.name]

        def spread() -> None:
            near = walking.neighbours(seen[0], stride, settings.affinity, settings.walk)
            walking.spread_cam(cam, near, settings.walk)

        return Line("random walk", petaflop * self.data.train, seconds(spread) * self.data.train)

    def segmentation(self) -> Iterator[Line]:
        """Yield the costs of the segmenter and of its masks of all validation images."""
        params = self.run.settings.segmenter
        net = segmenter.build(self.run, self.data.classes)
        objective = segmenter.Segmentation(net, params)
        yield Line("training segmenter", self.training(net, params, objective))
        net.eval().requires_grad_(False)
        once = self.looked(net, masks.resizing(params.test), params.test)
        core = self.refined(params.test) * self.data.val
        yield Line("segmentation", once * self.data.val, core)


def seconds(work: Callable[[], Any]) -> float:
    """Return the shortest of three times."""
    found = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def whole(entry: Entry) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return labels of an image (H, W): stripes of background, a class, and unknown."""
    labels = np.zeros(entry.size, np.uint8)
    labels[:, 100:300], labels[:, 300:310] = 1, 255
    return labels


def pictures(folder: Path, data: Dataset) -> Index:
    """Return two photographs and their mirror images in the typical size, and write CAMs of theirs."""
    generator = np.random.default_rng(0)
    classes = tuple(f"class {place}" for place in range(data.classes))
    entries = []
    for place in range(2 * PAIR):
        path = folder / f"{place}.jpg"
        photograph = Image.fromarray(load_sample_image(PHOTOGRAPHS[place % PAIR]))
        if place >= PAIR:
            photograph = photograph.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        photograph.resize(data.size[::-1], Image.Resampling.BICUBIC).save(path, quality=95)
        labels = classes[: data.labels]
        entries.append(Entry(path.stem, str(path), None, labels, "train", data.size, path.stem))
    with archive.Writer(folder / "cam.zip") as writer:
        maps = generator.random((data.labels, *grid(data.size, 32))).astype(np.float32)
        fine = enlarge(maps, grid(data.size, 4), 8).astype(np.float16)
        cam = Cam(np.arange(data.labels, dtype=np.int16), fine, data.size, 4)
        for entry in entries:
            writer.add(f"{entry.name}.npz", pack(cam))
    return Index("pictures", classes, tuple(entries))


def estimate(dataset: str, methods: Sequence[str]) -> Mapping[str, list[Line]]:
    """Return the costs of the methods (all, if none is named) on a dataset under `common`."""
    params = config.load([ROOT / "params" / f"{dataset}.yaml"])
    found = {}
    for run in runs(params):
        wanted = not methods or run.method in methods
        if wanted and run.protocol == "common" and run.seed == params.seeds[0]:
            torch.manual_seed(0)
            with tempfile.TemporaryDirectory() as folder:
                found[run.spec.title] = list(Estimate(run, DATASETS[dataset], Path(folder)).lines())
            for line in found[run.spec.title]:
                print(f"{run}: {line}", flush=True)
    return found


def rate() -> float:
    """Return the GFLOP/s that a core reaches in a large matrix product here."""
    matrix = torch.randn(1536, 1536)
    return 2 * 1536**3 / 1e9 / seconds(lambda: matrix @ matrix)


def page(datasets: Mapping[str, Mapping[str, list[Line]]]) -> str:
    """Return the tables in Markdown."""
    lines = [machine(), ""]
    for dataset, methods in datasets.items():
        data = DATASETS[dataset]
        lines += [
            f"## {dataset}: {data.train:,} training and {data.val:,} validation images",
            "",
            "| method | stage | PFLOP | GPU hours | core hours |",
            "|---|---|--:|--:|--:|",
        ]
        for title, own in methods.items():
            everything = [*own, total(own)]
            lines += [
                f"| {title} | {line.stage} | {line.petaflop:,.0f} "
                f"| {line.petaflop * 1e3 / GPU_TFLOPS / 3600:.1f} | {line.core_s / 3600:.1f} |"
                for line in everything
            ]
        walks = [line for own in methods.values() for line in own if line.stage == "random walk"]
        lines += ["", *(shards(walks[0]) if walks else ())]
    return "\n".join(lines).rstrip()


def shards(walk: Line) -> list[str]:
    """Return what becomes of the random walk's hours in shards that each start Python anew."""
    begin = [sys.executable, "-c", "import wsss.stages.walk"]
    start = seconds(lambda: subprocess.run(begin, check=True))
    found = []
    for count in (1, 8, 32, 128, 512):
        longest = start + walk.core_s / count
        found.append(f"{count}: {longest / 60:.1f} min ({walk.core_s / count / longest:.0%})")
    return [
        f"Random walk in so many shards at once, {start:.1f} s of start in each: {', '.join(found)} "
        "(in brackets: the share of the time that is work).",
        "",
    ]


def total(lines: list[Line]) -> Line:
    """Return the sum of a method's stages."""
    return Line("**all**", sum(line.petaflop for line in lines), sum(line.core_s for line in lines))


def main() -> None:
    """Estimate the datasets and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", choices=list(DATASETS))
    parser.add_argument(
        "--page", type=Path, help="a page with marks that the tables belong between"
    )
    parser.add_argument("--method", action="append", default=[], help="only this one; repeatable")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    said = page({name: estimate(name, chosen.method) for name in chosen.datasets})
    print(said)
    if chosen.page:
        rewritten(chosen.page, said)


if __name__ == "__main__":
    main()
