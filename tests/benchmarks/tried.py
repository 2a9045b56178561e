"""What was tried and is not used: what it would bring, against what is used."""

import copy
import functools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from crfs import PRESENT, jobs, present
from measure import Row, compare, difference, row
from numpy.typing import NDArray

from wsss.machine.runtime import Runtime
from wsss.nets.build import build_backbone
from wsss.refine import crf

ALIKE = 0.995  # share of labels that another back end of the CRF has to give as well
PICTURES, UPDATES = 2, 10


def one_kernel() -> Iterator[Row]:
    """Update the weights of a transformer by PyTorch's fused AdamW."""
    first = Runtime.start().place(build_backbone("deit_small_patch16_224", 16))
    nets = (first, copy.deepcopy(first))
    optimizers = []
    for net, fused in zip(nets, (False, True), strict=True):
        torch.manual_seed(0)
        for weight in net.parameters():
            weight.grad = torch.randn_like(weight)
        optimizers.append(torch.optim.AdamW(net.parameters(), 1e-3, fused=fused))
    both = compare(*(functools.partial(_update, each) for each in optimizers), rounds=6)
    used, tried = (torch.cat([w.detach().flatten() for w in net.parameters()]) for net in nets)
    said = difference(used, tried, "updates", 1e-5)
    yield row("tried: fused AdamW", f"DeiT-S, {UPDATES} updates", both, said)


def _update(optimizer: torch.optim.Optimizer) -> None:
    for _ in range(UPDATES):
        optimizer.step()


def compiled() -> Iterator[Row]:
    """Look at images through networks that torch.compile has translated."""
    for name, batch in (("resnet50", 4), ("deit_small_patch16_224", 8)):
        net = Runtime.start().place(build_backbone(name, 16))
        images = Runtime.start().send(torch.randn(batch, 3, 224, 224))
        began = time.perf_counter()
        translated = torch.compile(net.eval())
        with torch.inference_mode():
            translated(images)
            took = time.perf_counter() - began
            both = compare(lambda: net(images)[-1], lambda: translated(images)[-1])  # noqa: B023
        said = difference(both[0].result, both[1].result, f"{name}, compiled", 1e-4)
        setting = f"batch {batch}, 224 px; {took:.0f} s to compile"
        yield row(f"tried: torch.compile, {name}", setting, both, said)


def lattices() -> Iterator[Row]:
    """Refine scores by the CRF's mean field in PyTorch, which runs on a GPU, on the CPU."""
    for preset in ("psa", "deeplab_msc"):
        with tempfile.TemporaryDirectory() as folder:
            yield _lattice(preset, jobs(Path(folder), preset, PICTURES))


def _lattice(preset: str, work: list[Path]) -> Row:
    both = compare(
        lambda: [present(preset, path) for path in work],
        lambda: [mean_field(preset, path) for path in work],
        rounds=3,
    )
    used, tried = (np.stack(each.result) for each in both)
    alike = float(np.mean(used == tried))
    if alike < ALIKE:
        raise SystemExit(f"{preset}: the CRF in PyTorch agrees on {alike:.2%} of the pixels")
    setting = f"{PICTURES} images of 375x500, present classes"
    return row(f"tried: CRF {preset} in PyTorch", setting, both, f"{alike:.2%} of the labels agree")


def mean_field(preset: str, path: Path) -> NDArray[np.uint8]:
    """Return the labels of one image, by the CRF of a GPU on the CPU."""
    with np.load(path) as own:
        chosen = crf.refine_scores(own["picture"], own["scores"], preset, "cpu").argmax(0)
        return np.array(PRESENT, np.uint8)[chosen]
