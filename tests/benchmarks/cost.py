"""What a dataset costs: the arithmetic of each network stage counted, the rates of the others measured.

    python tests/benchmarks/cost.py voc12 coco14 [--method METHOD] [--params FILE] [--page PAGE]

prints a table for each, and writes it into a page. The arithmetic is exact, from the settings of
params/<dataset>.yaml (and files laid over it, `--params`) under `common`, for images of a typical size; it is turned into hours by the rates that
stages of the same family have reached on a GPU (gpu_rates.py). The CRF, the walk and the scores are timed here (processor time), on one core and photographs
of that size, after all arithmetic has been counted. --counted FILE keeps the counts, which no load of the
machine changes, so that the same call goes on and only times again.
"""

import argparse
import contextlib
import functools
import io
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gpu_rates import rate_of, sentences, tflops
from page import machine, rewritten
from PIL import Image
from pydantic import BaseModel
from sklearn.datasets import load_sample_image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from wsss.data.index import Entry, Index
from wsss.data.normalisation import Normalisation
from wsss.inference.trained import normalisation, without_gradients
from wsss.inference.views import (
    TestTimeAugmentation,
    cam_augmentation,
    decode_augmentation,
    segmenter_augmentation,
)
from wsss.machine.runtime import Runtime
from wsss.methods.base import Computed, Method, load_method
from wsss.nets.affinitynet import build_affinity_network
from wsss.nets.backbone import Network
from wsss.nets.deeplab import build_deeplab
from wsss.runs.run import Run, planned_runs
from wsss.scores.metrics import ThresholdCurve, thresholds
from wsss.settings.resolve import load_params
from wsss.stages import affinity, confident, masks, pseudo, segmenter
from wsss.stages import walk as walking
from wsss.storage import archive
from wsss.storage.cam_archive import Cam, CamReader, enlarge, grid, pack
from wsss.storage.files import read_json, write_json
from wsss.training.batches import Schedule, Squares, TrainingImages, batches

ROOT = Path(__file__).parents[2]
PAIR = 2  # images that arithmetic is counted on
PHOTOGRAPHS = ("china.jpg", "flower.jpg")  # of scikit-learn


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


Costs = Iterator[tuple[str, float]]  # of stages, by their names
KNOWN: dict[tuple[Any, ...], tuple[tuple[str, float], ...]] = {}
ORDER = (  # of the stages that follow the networks' training
    "CAM inference",
    "own decoder",
    "affinity labels",
    "training affinity",
    "random walk",
    "pseudo labels",
    "threshold curves",
    "training segmenter",
    "segmentation",
)


@dataclass(frozen=True)
class Line:
    """The cost of a stage: petaflops of networks, hours of a GPU, seconds of one core."""

    stage: str
    petaflop: float
    gpu_h: float
    core_s: float


def counted(work: Callable[[], Any]) -> float:
    """Return the floating-point operations of a piece of work, in units of 1e15."""
    with FlopCounterMode(display=False) as counter, contextlib.redirect_stderr(io.StringIO()):
        work()
    return float(counter.get_total_flops()) / 1e15


def once(data: Dataset, stages: Callable[[], Costs], *parts: BaseModel) -> Costs:
    """Yield the costs of stages that methods with equal settings share; they are found once."""
    key = (data, stages.__qualname__, *(part.model_dump_json() for part in parts))
    if key not in KNOWN:
        KNOWN[key] = tuple(stages())
    yield from KNOWN[key]


class Arithmetic:
    """The petaflops of one run, stage by stage, on photographs of the dataset's typical size."""

    def __init__(self, run: Run, data: Dataset, folder: Path) -> None:
        self.run, self.data = run, data
        self.index = pictures(folder, data)
        self.nets: dict[str, nn.Module] = {}
        self.runtime = Runtime.start("fp32")

    @functools.cached_property
    def method(self) -> Method:
        """The method of the run; one that learns from masks has none."""
        return load_method(self.run.method)(self.run.settings.networks, self.data.classes)

    def stages(self) -> Costs:
        """Yield the stages that networks work in."""
        settings, spec = self.run.settings, self.run.spec
        for name in self.run.networks:
            yield self.computed(name) if spec.networks[name].computed else self.classifier(name)
        if not spec.learns_masks:
            net: Any = self.nets[str(spec.cam_network)]
            look = lambda image: self.method.cam(net, image)  # noqa: E731
            image = self.looked(look, cam_augmentation(settings.cam))
            yield "CAM inference", image * self.data.train
            yield from [self.decoder(net)] if spec.decodes else []
            if settings.pseudo.source == "walk":
                yield from once(self.data, self.affinity, settings.affinity, settings.walk)
        yield from once(self.data, self.segmentation, settings.segmenter)

    def images_seen(self, params: Any) -> int:
        """Return how many images a training works on."""
        schedule = Schedule(self.data.train, params.batch, params.epochs, 1, 0, limit=params.steps)
        return int(schedule.steps * params.batch)

    def training(self, net: Network, params: Any, loss: Callable[[Any, int], Any]) -> float:
        """Return the arithmetic of a training: of a step half way, times the images it sees."""
        self.runtime.place(net).train()
        normalise = normalisation(net)
        images = TrainingImages(
            self.index, self.index.images, params.augment, normalise, 0, masks=lambda e: whole(e)
        )
        schedule = Schedule(len(images), PAIR, 1, 1, 0)
        batch = images.normalised(next(batches(images, schedule, 0, 0)))
        steps = Schedule(self.data.train, params.train.batch, params.train.epochs, 1, 0).steps
        half = (params.train.steps or steps) // 2

        def step() -> None:
            terms = loss(batch, half)
            torch.stack([term.float() for term in terms.values()]).sum().backward()

        return counted(step) / PAIR * self.images_seen(params.train)

    def classifier(self, name: str) -> tuple[str, float]:
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
            squares = Squares(self.index, self.index.images[:PAIR], normalisation(net), 0)
            first = rounds[0]
            one = counted(
                lambda: self.method.after_epoch(
                    name, self.nets, first, lambda side, count: squares.batches(side, count, 0)
                )
            )
            wanted = min(self.data.train, params.hyper_parameters.fim_images * self.data.classes)
            petaflop += one / PAIR * wanted * len(rounds)
        net.eval().requires_grad_(False)
        return f"training {name}", petaflop

    def _measures(self, epoch: int) -> bool:
        settings: Any = self.run.settings.networks["classifier"].hyper_parameters
        after = epoch - settings.fim_first
        return after >= 0 and after % settings.fim_every == 0

    def computed(self, name: str) -> tuple[str, float]:
        """Return the cost of tensors that are computed from all images instead of trained."""
        net = next(net for net in self.nets.values() if isinstance(net, Network))
        squares = Squares(self.index, self.index.images, normalisation(net), 0)
        found: dict[str, Any] = {}

        def work() -> None:
            with torch.inference_mode():
                source = lambda side, count: squares.in_order(side, count)  # noqa: E731
                found.update(self.method.compute(name, self.nets, source))

        petaflop = counted(work) / len(self.index.images) * self.data.train
        self.nets[name] = Computed({key: value.clone() for key, value in found.items()})
        return f"computing {name}", petaflop

    def looked(self, look: Callable[[Any], Any], augmentation: TestTimeAugmentation) -> float:
        """Return the arithmetic of the forward passes of all views of one image."""
        picture = [np.zeros((*self.data.size, 3), np.uint8)]
        normalise = Normalisation((0.5,) * 3, (0.5,) * 3)
        total = 0.0
        for image in augmentation.views(picture, normalise):
            total += counted(lambda image=image: without_gradients(look)(image))
        return total * (2 if augmentation.mirror else 1)

    def decoder(self, net: Any) -> tuple[str, float]:
        """Return the cost of the own decoder's masks of all validation images."""
        params = self.run.settings.decode
        look = lambda image: self.method.decode(net, image)  # noqa: E731
        return "own decoder", self.looked(look, decode_augmentation(params)) * self.data.val

    def affinity(self) -> Costs:
        """Yield the costs of training the affinity network and of its look at all images."""
        settings = self.run.settings
        net = build_affinity_network(self.run.settings.affinity)
        objective = affinity.OBJECTIVES[settings.affinity.kind](net, settings.affinity)
        yield "training affinity", self.training(net, settings.affinity, objective)
        look = walking.affinity_forward(net.eval().requires_grad_(False), settings.walk.pad_px)
        image = counted(lambda: without_gradients(look)(torch.randn(1, 3, *self.data.size)))
        yield "random walk", image * self.data.train

    def segmentation(self) -> Costs:
        """Yield the costs of the segmenter and of its masks of all validation images."""
        params = self.run.settings.segmenter
        net = build_deeplab(params, self.data.classes)
        objective = segmenter.Segmentation(net, params)
        yield "training segmenter", self.training(net, params, objective)
        net.eval().requires_grad_(False)
        image = self.looked(net, segmenter_augmentation(params))
        yield "segmentation", image * self.data.val


class Clock:
    """The seconds of one core that a run takes, stage by stage, on the same photographs."""

    def __init__(self, run: Run, data: Dataset, folder: Path) -> None:
        self.run, self.data, self.store = run, data, folder / "cam.zip"
        self.index = pictures(folder, data)

    def stages(self) -> Costs:
        """Yield the stages that work on processors."""
        settings, spec = self.run.settings, self.run.spec
        if spec.decodes:
            yield "own decoder", self.refined(settings.decode) * self.data.val
        if not spec.learns_masks:
            parts = (settings.affinity, settings.walk, settings.pseudo, settings.evaluation)
            yield from once(self.data, self.refinement, *parts)
        yield "segmentation", self.refined(settings.segmenter.test) * self.data.val

    def refined(self, params: Any) -> float:
        """Return the time of deciding on the labels of one image, CRF included."""

        def stages() -> Costs:
            yield (
                "an image",
                self.timed(lambda entry: masks.decide([entry], seen, params, normalise)),
            )

        generator = torch.Generator().manual_seed(0)
        coarse = 3 * torch.randn(1, self.data.classes + 1, 9, 12, generator=generator)
        coarse[:, 1 + 2 * self.data.labels :] = -8.0  # the others are hardly considered
        seen = F.interpolate(coarse, self.data.size, mode="bicubic") * masks.view_count(params)
        normalise = Normalisation((0.5,) * 3, (0.5,) * 3)
        return dict(once(self.data, stages, params))["an image"]

    def timed(self, work: Callable[[Entry], Any]) -> float:
        """Return the time of one image."""
        images = self.index.images[:PAIR]
        return sum(seconds(functools.partial(work, entry)) for entry in images) / PAIR

    def refinement(self) -> Costs:
        """Yield the times from CAMs to pseudo labels."""
        settings, count = self.run.settings, self.data.train
        if settings.pseudo.source == "walk":
            own = settings.affinity.confident
            image = self.timed(lambda entry: confident.label(self.index, self.store, own, entry))
            yield "affinity labels", image * count
            yield "random walk", self.walk() * count
        channels = self.data.classes + 1
        image = self.timed(lambda entry: pseudo.label(self.store, settings.pseudo, channels, entry))
        yield "pseudo labels", image * count
        curve = ThresholdCurve(channels, thresholds(settings.evaluation.thresholds))
        cams = CamReader(self.store)

        def score(entry: Entry) -> None:
            cam = cams[entry.name]
            curve.add(whole(entry), cam.full(), cam.labels)

        yield "threshold curves", self.timed(score) * count * 2

    def walk(self) -> float:
        """Return the time of the sparse steps of the random walk of one image."""
        settings = self.run.settings
        net = build_affinity_network(self.run.settings.affinity).eval().requires_grad_(False)
        look = walking.affinity_forward(net, settings.walk.pad_px)
        [seen, *_] = without_gradients(look)(torch.randn(1, 3, *self.data.size))
        cam = CamReader(self.store)[self.index.images[0].name]

        def spread() -> None:
            near = walking.neighbours(seen, net.stride, settings.affinity, settings.walk)
            walking.spread_cam(cam, near, settings.walk)

        return seconds(spread)


def seconds(work: Callable[[], Any]) -> float:
    """Return the least processor time of three calls, that of processes they started included."""
    found = []
    for _ in range(3):
        began = used()
        work()
        found.append(used() - began)
    return min(found)


def used() -> float:
    """Return the processor seconds that this process and its ended children have had."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


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
        entries.append(Entry(path.stem, str(path), None, labels, "train", data.size, ""))
    with archive.Writer(folder / "cam.zip") as writer:
        maps = generator.random((data.labels, *grid(data.size, 32))).astype(np.float32)
        fine = enlarge(maps, grid(data.size, 4), 8).astype(np.float16)
        cam = Cam(np.arange(data.labels, dtype=np.int16), fine, data.size, 4)
        for entry in entries:
            writer.add(f"{entry.name}.npz", pack(cam))
    return Index("pictures", classes, tuple(entries))


class Counted:
    """What was counted so far, in a file, so that a call that was stopped goes on."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.found = read_json(path) if path and path.exists() else {}

    def stages(self, dataset: str, run: Run) -> dict[str, float]:
        """Return the petaflops of a run's stages, counted now or before."""
        name = f"{dataset} {run.method}"
        if name not in self.found:
            torch.manual_seed(0)
            with tempfile.TemporaryDirectory() as folder:
                self.found[name] = dict(Arithmetic(run, DATASETS[dataset], Path(folder)).stages())
            if self.path:
                write_json(self.path, self.found)
            print(f"{name}: {sum(self.found[name].values()):.0f} PFLOP", flush=True)
        return dict(self.found[name])


def chosen_runs(dataset: str, methods: Sequence[str], files: Sequence[Path] = ()) -> list[Run]:
    """Return a run of each method (all, if none is named) under `common`. files: laid over the preset."""
    params = load_params([ROOT / "params" / f"{dataset}.yaml", *files])
    return [
        run
        for run in planned_runs(params)
        if run.protocol == "common" and run.seed == params.seeds[0]
        if not methods or run.method in methods
    ]


def lines(dataset: str, run: Run, petaflop: Mapping[str, float]) -> list[Line]:
    """Return the costs of a run in the order of its stages, its processor times measured now."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        core_s = dict(Clock(run, DATASETS[dataset], Path(folder)).stages())
    first = [name for name in petaflop if name not in ORDER]
    rest = [name for name in ORDER if name in petaflop or name in core_s]
    found = [
        Line(name, petaflop.get(name, 0.0), gpu_hours(run, name, petaflop), core_s.get(name, 0.0))
        for name in first + rest
    ]
    print(f"{dataset} {run.method}: {sum(line.core_s for line in found) / 3600:.1f} core hours")
    return found


def gpu_hours(run: Run, stage: str, petaflop: Mapping[str, float]) -> float:
    """Return the hours of a GPU for the arithmetic of a stage, at a measured rate of its family."""
    return petaflop.get(stage, 0.0) * 1e3 / tflops(rate_of(run, stage)) / 3600


def page(datasets: Mapping[str, Mapping[str, list[Line]]]) -> str:
    """Return the tables in Markdown."""
    said = [machine(), "", *sentences(), ""]
    for dataset, methods in datasets.items():
        data = DATASETS[dataset]
        said += [
            f"## {dataset}: {data.train:,} training and {data.val:,} validation images",
            "",
            "| method | stage | PFLOP | GPU hours | core hours |",
            "|---|---|--:|--:|--:|",
        ]
        for title, own in methods.items():
            everything = [*own, total(own)]
            said += [
                f"| {title} | {line.stage} | {line.petaflop:,.0f} "
                f"| {line.gpu_h:.1f} | {line.core_s / 3600:.1f} |"
                for line in everything
            ]
        walks = [line for own in methods.values() for line in own if line.stage == "random walk"]
        said += ["", *(shards(walks[0]) if walks else ())]
    return "\n".join(said).rstrip()


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
    sums = (sum(getattr(line, name) for line in lines) for name in ("petaflop", "gpu_h", "core_s"))
    return Line("**all**", *sums)


def main() -> None:
    """Estimate the datasets and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", choices=list(DATASETS))
    parser.add_argument(
        "--page", type=Path, help="a page with marks that the tables belong between"
    )
    parser.add_argument("--method", action="append", default=[], help="only this one; repeatable")
    parser.add_argument(
        "--params", type=Path, action="append", default=[], help="settings laid over the preset's"
    )
    parser.add_argument("--counted", type=Path, help="a file that keeps the counted arithmetic")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    counted_so_far = Counted(chosen.counted)
    work = {name: chosen_runs(name, chosen.method, chosen.params) for name in chosen.datasets}
    counts = {
        name: [counted_so_far.stages(name, run) for run in found] for name, found in work.items()
    }
    said = page(
        {
            name: {
                run.spec.title: lines(name, run, petaflop)
                for run, petaflop in zip(found, counts[name], strict=True)
            }
            for name, found in work.items()
        }
    )
    print(said)
    if chosen.page:
        rewritten(chosen.page, said)


if __name__ == "__main__":
    main()
