"""The training loop: exact resumption, accumulation, processes, schedules, bad numbers."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from processes import running
from torch import Tensor, nn

from wsss.data.index import Index, save_index
from wsss.data.normalisation import Normalisation
from wsss.errors import TrainingError
from wsss.machine.runtime import Runtime
from wsss.settings import AugmentParams, TrainParams
from wsss.storage import checkpoint
from wsss.training.batches import Schedule, TrainingImages
from wsss.training.loop import Objective, Trainer, Training, fit
from wsss.training.optimizer import optimizer, rate

NORMALISE = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
PARAMS = TrainParams(epochs=3, batch=8, lr=1e-3, head_lr_scale=10.0)
AUGMENT = AugmentParams(crop_px=32)


class Tiny(Objective):
    """A two-layer classifier with dropout, whose randomness must be resumed as well."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Module()
        self.net.backbone = nn.Conv2d(3, 8, 5, 4)
        self.net.head = nn.Linear(8, 3)

    def forward(self, batch: Mapping[str, Any], step: int) -> dict[str, Tensor]:
        """Return two terms."""
        features = self.net.backbone(batch["image"]).relu().mean((2, 3))
        scores = self.net.head(nn.functional.dropout(features, 0.2))
        loss = nn.functional.binary_cross_entropy_with_logits(scores, batch["label"])
        return {"labels": loss, "size": 1e-3 * scores.square().mean()}


def training(index: Index, folder: Path, params: TrainParams = PARAMS, seed: int = 0) -> Training:
    images = TrainingImages(index, index.training(), AUGMENT, NORMALISE, seed)
    return Training(Tiny(), images, params, seed, folder / "tiny.safetensors", {"seed": seed})


def trained(
    index: Index, folder: Path, params: TrainParams = PARAMS, seed: int = 0
) -> dict[str, Tensor]:
    fit(training(index, folder, params, seed), Runtime(torch.device("cpu"), torch.float32))
    return checkpoint.load(folder / "tiny.safetensors")[0]


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor], tolerance: float = 0.0) -> bool:
    return all((first[key] - second[key]).abs().max() <= tolerance for key in first)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(
    squares: Index, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder, seed in zip(folders, (0, 0, 1), strict=True):
        trained(squares, folder, seed=seed)
    first, again, other = ((folder / "tiny.safetensors").read_bytes() for folder in folders)
    assert first == again
    assert first != other


@pytest.mark.parametrize("stop", [1, 4, 8])
def test_a_training_resumed_at_any_step_equals_an_uninterrupted_one(
    squares: Index, tmp_path: Path, stop: int
) -> None:
    whole = trained(squares, tmp_path / "whole")
    runtime = Runtime(torch.device("cpu"), torch.float32)
    first = Trainer(training(squares, tmp_path / "cut"), runtime)
    parts = iter(
        torch.utils.data.DataLoader(
            first.training.images, batch_sampler=list(first.schedule.parts(0))
        )
    )
    first.objective.train()
    for step in range(stop):
        first.step(step, parts)
    first.note_losses()
    first.save(stop)
    resumed = trained(squares, tmp_path / "cut")
    assert same(whole, resumed)
    assert not first.training.state.exists()
    rows = (tmp_path / "cut/tiny.csv").read_text().splitlines()
    assert len(rows) == 1 + 9


def test_a_state_of_other_settings_is_not_used(squares: Index, tmp_path: Path) -> None:
    old = Trainer(training(squares, tmp_path, seed=5), Runtime(torch.device("cpu"), torch.float32))
    old.save(7)
    fresh = Trainer(
        training(squares, tmp_path, seed=0), Runtime(torch.device("cpu"), torch.float32)
    )
    assert fresh.resume() == 0


def test_a_damaged_state_costs_time_and_not_the_run(squares: Index, tmp_path: Path) -> None:
    item = training(squares, tmp_path)
    item.state.parent.mkdir(parents=True)
    item.state.write_bytes(b"cut short")
    assert Trainer(item, Runtime(torch.device("cpu"), torch.float32)).resume() == 0


def test_an_accumulated_batch_equals_a_large_one(squares: Index, tmp_path: Path) -> None:
    class Plain(Tiny):
        def forward(self, batch: Mapping[str, Any], step: int) -> dict[str, Tensor]:
            with torch.random.fork_rng():
                features = self.net.backbone(batch["image"]).relu().mean((2, 3))
                return {"labels": (self.net.head(features) - batch["label"]).square().mean()}

    results = []
    for count in (1, 4):
        item = replace(training(squares, tmp_path / str(count)), objective=Plain())
        item = replace(item, params=PARAMS.model_copy(update={"accumulate": count}))
        fit(item, Runtime(torch.device("cpu"), torch.float32))
        results.append(checkpoint.load(item.weights)[0])
    assert same(*results, tolerance=1e-5)


def test_workers_do_not_change_what_is_learned(squares: Index, tmp_path: Path) -> None:
    alone = trained(squares, tmp_path / "a")
    helped = trained(squares, tmp_path / "b", PARAMS.model_copy(update={"workers": 2}))
    assert same(alone, helped)


def test_a_loss_that_is_no_number_stops_and_names_the_images(
    squares: Index, tmp_path: Path
) -> None:
    item = training(squares, tmp_path)
    item.weights.write_bytes(b"earlier")
    with torch.no_grad():
        item.objective.net.head.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"nan at step 0 of tiny; the images are train\d+"):
        fit(item, Runtime(torch.device("cpu"), torch.float32))
    assert item.weights.read_bytes() == b"earlier"


def test_the_log_has_the_rate_of_each_step_and_a_bad_loss_never_reaches_a_saved_state(
    squares: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = training(squares, tmp_path)
    fit(item, Runtime(torch.device("cpu"), torch.float32))
    rows = [row.split(",") for row in item.log.read_text().splitlines()[1:]]
    rates = [PARAMS.lr * rate(PARAMS, step, 9) for step in range(9)]
    assert [float(row[2]) for row in rows] == pytest.approx(rates)

    class Failing(Tiny):
        def forward(self, batch: Mapping[str, Any], step: int) -> dict[str, Tensor]:
            factor = float("nan") if step == 4 else 1.0
            return {name: factor * term for name, term in super().forward(batch, step).items()}

    saved: list[int] = []
    monkeypatch.setattr(Trainer, "save", lambda _, step: saved.append(step))
    clock = iter(range(0, 10**6, 100))
    monkeypatch.setattr("wsss.training.loop.time.monotonic", lambda: float(next(clock)))
    with pytest.raises(TrainingError, match="nan at step 4"):
        fit(replace(item, objective=Failing()), Runtime(torch.device("cpu"), torch.float32))
    assert saved == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("poly", [0.5, 1.0, (1 - 4 / 9) ** 0.9]),
        ("cosine", [0.5, 1.0, 0.5868240888]),
        ("constant", [0.5, 1, 1]),
    ],
)
def test_schedules_rise_and_fall_as_stated(schedule: str, expected: list[float]) -> None:
    params = TrainParams(schedule=schedule, warmup=0.1, power=0.9)
    assert [rate(params, step, 10) for step in (0, 1, 5)] == pytest.approx(expected)


def test_new_layers_learn_at_the_heads_rate() -> None:
    groups = optimizer(Tiny().net, PARAMS).param_groups
    assert [group["factor"] for group in groups] == [1.0, 10.0]
    assert [p.shape for p in groups[1]["params"]] == [(3, 8), (3,)]


def test_every_image_is_seen_once_in_an_epoch_and_order_changes() -> None:
    schedule = Schedule(images=24, batch=8, epochs=2, accumulate=2, seed=0)
    parts = list(schedule.parts(0))
    first = [number for part in parts[:6] for _, number in part]
    second = [number for part in parts[6:] for _, number in part]
    assert sorted(first) == sorted(second) == list(range(24))
    assert first != second
    halves = [list(replace(schedule, rank=rank, world=2).parts(0)) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*halves, strict=True)] == [sorted(part) for part in parts]
    assert np.array_equal(list(schedule.parts(3)), parts[6:])


def test_the_last_images_of_an_epoch_are_dropped_or_are_a_smaller_batch() -> None:
    schedule = Schedule(images=10, batch=4, epochs=2, accumulate=1, seed=0)
    kept = replace(schedule, keep=True)
    assert [len(part) for part in schedule.parts(0)] == [4] * 4
    assert [len(part) for part in kept.parts(0)] == [4, 4, 2] * 2
    first = [number for part in list(kept.parts(0))[:3] for _, number in part]
    assert sorted(first) == list(range(10))
    assert replace(kept, images=8).steps == 4


def test_steps_can_be_given_instead_of_epochs(squares: Index, tmp_path: Path) -> None:
    trained(squares, tmp_path, PARAMS.model_copy(update={"steps": 4}))
    rows = (tmp_path / "tiny.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in rows[1:]] == [
        ["0", "0"],
        ["1", "0"],
        ["2", "0"],
        ["3", "1"],
    ]


@pytest.mark.slow  # torch.compile calls a C++ compiler
def test_a_compiled_backbone_learns_the_same_under_the_same_names(
    squares: Index, tmp_path: Path
) -> None:
    params = PARAMS.model_copy(update={"steps": 3})
    plain = trained(squares, tmp_path / "a", params)
    item = training(squares, tmp_path / "b", params.model_copy(update={"compile": True}))
    runtime = Runtime(torch.device("cpu"), torch.float32)
    counters = torch._dynamo.utils.counters
    counters.clear()
    fit(item, runtime)
    assert counters["stats"]["unique_graphs"] > 0
    compiled = checkpoint.load(item.weights)[0]
    assert plain.keys() == compiled.keys()
    assert same(plain, compiled, tolerance=1e-5)


def test_frozen_weights_are_not_learned(squares: Index, tmp_path: Path) -> None:
    first = Tiny().net.state_dict()
    learned = trained(squares, tmp_path, PARAMS.model_copy(update={"frozen": ("backbone.*",)}))
    changed = [key for key in first if not torch.equal(first[key], learned[key])]
    assert changed == ["head.weight", "head.bias"]


@pytest.mark.slow  # tests/machine/test_launch.py has the same through --gpus
def test_two_processes_learn_what_one_learns(squares: Index, work: Path) -> None:
    run = Path("work/shapes/cam/common/s0")
    overrides = work / "params.json"
    overrides.write_text(
        '{"data": {"shapes": {"train": 24, "val": 6}}, "classifier": {"augment": {"crop_px": 48}, '
        '"train": {"epochs": 1, "batch": 8, "precision": "fp32", "freeze_norm": true}}}'
    )
    save_index(replace(squares, dataset="shapes"), Path("work/shapes/index.json"))
    states = []
    arguments = ["train", "shapes/cam/common/s0", "classifier", "--params", str(overrides)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "wsss"]
    for launch in (["-m", "wsss"], launcher):
        subprocess.run([sys.executable, *launch, *arguments], check=True, env=environment)
        states.append(checkpoint.load(run / "classifier.safetensors")[0])
        (run / "classifier.safetensors").unlink()
    assert same(*states, tolerance=1e-5)


@pytest.mark.slow  # three trainings of which the first is whole
def test_a_killed_training_goes_on_where_it_was(squares: Index, work: Path) -> None:
    settings = '{"classifier": {"augment": {"crop_px": 48}, "train": {"epochs": 60, "batch": 8, "save_seconds": 1}}}'
    (work / "params.json").write_text(settings)
    save_index(replace(squares, dataset="shapes"), Path("work/shapes/index.json"))
    weights = Path("work/shapes/cam/common/s0/classifier.safetensors")
    command = [
        sys.executable,
        "-m",
        "wsss",
        "train",
        "shapes/cam/common/s0",
        "classifier",
        "--params",
        "params.json",
    ]
    subprocess.run(command, check=True)
    whole = weights.read_bytes()
    weights.unlink()
    state = weights.parent / "state/classifier.pt"
    with running(command) as process:
        while process.poll() is None and not state.exists():
            time.sleep(0.01)
    assert state.exists()
    assert not weights.exists()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "going on from step" in done.stderr
    assert weights.read_bytes() == whole


def test_curves_are_also_written_for_tensorboard(squares: Index, work: Path) -> None:
    pytest.importorskip("tensorboard")
    trained(squares, Path("out"), PARAMS.model_copy(update={"tensorboard": True}))
    assert len(list(work.rglob("logs/tensorboard/**/events*"))) == 1
