"""The one training loop: any objective, any number of processes, resumed exactly where it stopped.

A step depends on the seed and its number alone, so a training that was killed at any moment and
started again ends with the same weights as an uninterrupted one: on processors always, on a GPU with
`train.deterministic`.
"""

from __future__ import annotations

import contextlib
import csv
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wsss.data.workers import Batch, to_device
from wsss.errors import MissingError, TrainingError
from wsss.machine.lock import claimed
from wsss.machine.runtime import Runtime, fetch
from wsss.nets import initial
from wsss.nets.backbone import InitialPart
from wsss.progress import log, progress
from wsss.randomness import number
from wsss.settings import TrainParams
from wsss.storage.files import replacing
from wsss.training.batches import Schedule, TrainingImages, batches
from wsss.training.optimizer import freeze, parts

# Of a resume state.
PARTS = {"header", "initial", "objective", "optimizers", "scaler", "rows", "step"}


class Objective(nn.Module):
    """The trained network (`net`) and the terms of its loss, as one module that can be distributed."""

    net: nn.Module

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the terms of the loss (scalars); the loop sums them."""
        raise NotImplementedError

    def after_epoch(self, epoch: int, runtime: Runtime) -> None:
        """Do the work between epoch `epoch` (from 0) and the next, in every process."""


@dataclass(frozen=True)
class Training:
    """One training: its objective, images and settings, and where its files go.

    weights: path of the weights file. header: the header of that file; a resume state with another
    header is not used. finish: changes the trained network before its weights are written.
    """

    objective: Objective
    images: TrainingImages
    params: TrainParams
    seed: int
    weights: Path
    header: Mapping[str, object]
    finish: Callable[[Runtime], None] | None = None

    @property
    def log(self) -> Path:
        """The path of the CSV with a row per step."""
        return self.weights.with_suffix(".csv")

    @property
    def state(self) -> Path:
        """The path of the resume state, which exists until the training is done."""
        return self.weights.parent / "state" / f"{self.weights.stem}.pt"


class Losses(NamedTuple):
    """The loss terms of a part of a batch: names, a function that waits for their values, images."""

    terms: tuple[str, ...]
    copy: Callable[[], Tensor]
    images: Sequence[str]


class Started(NamedTuple):
    """A step that was started, its learning rate, and the losses of the parts of its batch."""

    step: int
    lr: float
    losses: Sequence[Losses]


class Trainer:
    """The state of a training while it runs."""

    def __init__(self, training: Training, runtime: Runtime) -> None:
        self.training, self.runtime, self.params = training, runtime, training.params
        self.schedule = Schedule(
            len(training.images),
            self.params.batch,
            self.params.epochs,
            self.params.accumulate,
            training.seed,
            runtime.rank,
            runtime.world,
            self.params.steps,
            self.params.last_batch == "keep",
        )
        self.objective = training.objective
        freeze(self.objective.net, self.params)  # before the processes agree on what has gradients
        if self.params.compile:
            compile_backbone(self.objective.net)
        self.parallel = runtime.parallel(self.objective)
        self.parts = parts(self.objective.net, self.params)
        self.scaler = runtime.scaler()
        self.rows: list[dict[str, float]] = []
        self.started: deque[Started] = deque()  # steps whose losses are not noted yet
        self.first, self.began = 0, time.monotonic()  # first step of this process, and its time
        self.curves = (
            _tensorboard(training) if self.params.tensorboard and runtime.is_main else None
        )

    def resume(self) -> int:
        """Load the resume state if it belongs to this training; return the steps done."""
        path = self.training.state
        if not path.is_file():
            return 0
        try:
            state = torch.load(path, map_location=self.runtime.device, weights_only=True)
        except Exception as error:  # noqa: BLE001  # a damaged state costs time, never the run
            log.info("%s cannot be read (%s): training starts again", path, error)
            return 0
        if not isinstance(state, dict) or set(state) != PARTS:
            log.info("%s is no resume state: training starts again", path)
            return 0
        if state["header"] != dict(self.training.header):
            log.info("%s is of other settings: training starts again", path)
            return 0
        left_out = {name: InitialPart(*part) for name, part in state["initial"].items()}
        if not left_out.items() <= initial.unchanged(self.objective.net).items():
            log.info("%s is of other initial weights: training starts again", path)
            return 0
        present = self.objective.state_dict()
        tensors = initial.completed(state["objective"], present, left_out, "net.")
        self.objective.load_state_dict(tensors)
        for part, values in zip(self.parts, state["optimizers"], strict=True):
            part.load(values)
        self.scaler.load_state_dict(state["scaler"])
        self.rows = state["rows"]
        log.info("going on from step %d of %d", state["step"], self.schedule.steps)
        return int(state["step"])

    def save(self, step: int) -> None:
        """Write the resume state, whole or not at all."""
        unchanged = initial.unchanged(self.objective.net)
        with replacing(self.training.state) as temporary:
            torch.save(
                {
                    "header": dict(self.training.header),
                    "initial": {name: astuple(part) for name, part in unchanged.items()},
                    "objective": initial.without(self.objective.state_dict(), unchanged, "net."),
                    "optimizers": [part.optimizer.state_dict() for part in self.parts],
                    "scaler": self.scaler.state_dict(),
                    "rows": self.rows,
                    "step": step,
                },
                temporary,
            )

    def step(self, step: int, loaded: Iterator[Batch]) -> None:
        """Do one optimiser step on the next batches, without waiting for the GPU.

        The loss of the step before is noted meanwhile; `note_losses` waits for the last one.
        """
        torch.manual_seed(number(self.training.seed, "step", step, self.runtime.rank))
        for part in self.parts:
            part.set_rate(step, self.schedule.steps)
            part.optimizer.zero_grad(set_to_none=True)
        losses: list[Losses] = []
        for _ in range(self.params.accumulate):
            batch = self.training.images.normalised(to_device(next(loaded), self.runtime))
            with self.runtime.autocast():
                terms = self.parallel(batch, step)
            values = torch.stack([term.float() for term in terms.values()])
            total = values.sum() / self.params.accumulate
            torch.autograd.backward(self.scaler.scale(total))
            local = values.detach()
            copy = fetch(torch.stack([local, self.runtime.mean(local)]))
            losses.append(Losses(tuple(terms), copy, batch["name"]))
        self._update()
        self.started.append(Started(step, self.lr, losses))
        self._note_started(1)

    def note_losses(self) -> None:
        """Wait for the losses of all started steps, check them and note them."""
        self._note_started(0)

    def _note_started(self, left: int) -> None:
        while len(self.started) > left:
            step, lr, losses = self.started.popleft()
            self._note(step, self._means(step, losses), lr)

    def _means(self, step: int, losses: Sequence[Losses]) -> dict[str, float]:
        """Return the mean of each loss term over the parts of a batch, once the GPU has them."""
        means: dict[str, float] = {}
        for part in losses:
            local_values, mean_values = part.copy().tolist()
            self._check(local_values, part.images, step)
            for name, value in zip(part.terms, mean_values, strict=True):
                means[name] = means.get(name, 0.0) + value / self.params.accumulate
        return means

    def _check(self, values: list[float], images: Sequence[str], step: int) -> None:
        if not math.isfinite(sum(values)):
            names = ", ".join(images[:4]) + (", ..." if len(images) > 4 else "")
            raise TrainingError(
                f"The loss is {sum(values)} at step {step} of {self.training.weights.stem}; the images are "
                f"{names}. Lower its train.lr or set train.precision: fp32. Nothing was overwritten."
            )

    def _update(self) -> None:
        if self.params.clip:
            for part in self.parts:
                self.scaler.unscale_(part.optimizer)
            nn.utils.clip_grad_norm_(self.objective.net.parameters(), self.params.clip)
        for part in self.parts:
            self.scaler.step(part.optimizer)
        self.scaler.update()

    def run(self) -> dict[str, float]:
        """Train to the end and return the means of the last epoch."""
        first = self.resume()
        loaded = batches(self.training.images, self.schedule, first, self.params.workers)
        self.objective.train()
        freeze(self.objective.net, self.params)
        saved = self.began = time.monotonic()
        self.first = first
        steps = range(first, self.schedule.steps)
        for step in self._shown(steps, first):
            self.step(step, loaded)
            now = time.monotonic()
            due = self.runtime.is_main and now - saved >= self.params.save_seconds
            if due or (step + 1) % self.schedule.steps_per_epoch == 0 or step == steps[-1]:
                self.note_losses()
            self._between(step + 1)
            if due:
                self.save(step + 1)
                saved = now
        if self.curves is not None:
            self.curves.close()
        without_compilation(self.objective.net)
        return self._last_epoch()

    def _between(self, done: int) -> None:
        """Let the objective work between two epochs, in evaluation mode."""
        epoch, rest = divmod(done, self.schedule.steps_per_epoch)
        if rest == 0 and done < self.schedule.steps:
            modes = [(module, module.training) for module in self.objective.modules()]
            self.objective.eval()
            torch.manual_seed(number(self.training.seed, "between", epoch))
            with torch.no_grad(), self.runtime.autocast():
                self.objective.after_epoch(epoch - 1, self.runtime)
            for module, was in modes:
                module.training = was

    def _shown(self, steps: range, first: int) -> Iterator[int]:
        if not self.runtime.is_main:
            return iter(steps)
        return progress(steps, f"train {self.training.weights.stem}", self.schedule.steps, first)

    @property
    def lr(self) -> float:
        """The learning rate of the last step that was started."""
        return float(self.parts[0].optimizer.param_groups[0]["lr"])

    def _note(self, step: int, means: Mapping[str, float], lr: float) -> None:
        images = (step - self.first + 1) * self.params.batch
        row = {
            "step": step,
            "epoch": step // self.schedule.steps_per_epoch,
            "lr": lr,
            "loss": sum(means.values()),
            **means,
            "images_per_s": round(images / (time.monotonic() - self.began), 1),
        }
        self.rows.append(row)
        if self.curves is not None:
            for name in ("lr", "loss", *means):
                self.curves.add_scalar(name, row[name], step)

    def _last_epoch(self) -> dict[str, float]:
        rows = self.rows[-self.schedule.steps_per_epoch :]
        return {
            "loss": sum(row["loss"] for row in rows) / len(rows),
            "images_per_s": rows[-1]["images_per_s"],
        }


def compile_backbone(net: nn.Module) -> None:
    """Compile the forward pass of the backbone; names of weights and their values stay.

    The rest of the network runs as it is, because methods call its parts one by one.
    """
    backbone = getattr(net, "backbone", None)
    if isinstance(backbone, nn.Module):
        backbone.compile()


def without_compilation(net: nn.Module) -> None:
    """Run the backbone as it is again, for images of any size."""
    backbone = getattr(net, "backbone", None)
    if isinstance(backbone, nn.Module):
        backbone._compiled_call_impl = None


def _tensorboard(training: Training) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # optional
    except ImportError:
        raise MissingError(
            "train.tensorboard is on and TensorBoard is not installed: uv sync --extra tensorboard."
        ) from None
    return SummaryWriter(Path("logs/tensorboard") / training.weights.with_suffix(""))


def write_log(path: Path, rows: list[dict[str, float]]) -> None:
    """Write a row per step as CSV, without speeds; a term that is missing in a step is an empty cell."""
    names = list(dict.fromkeys(name for row in rows for name in row if name != "images_per_s"))
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def fit(training: Training, runtime: Runtime) -> dict[str, float]:
    """Train, write the weights and the log, remove the resume state; return last-epoch means.

    Raises:
        TrainingError: the loss is not finite, or another job trains the same network. Files of an
            earlier training stay.
    """
    claim = claimed(training.state.with_suffix(".job"))
    with claim if runtime.is_main else contextlib.nullcontext():
        trainer = Trainer(training, runtime)
        result = trainer.run()
        if training.finish is not None:
            training.finish(runtime)
        if runtime.is_main:
            initial.save(training.weights, training.objective.net, training.header)
            write_log(training.log, trainer.rows)
            training.state.unlink(missing_ok=True)
    runtime.wait()
    return result
