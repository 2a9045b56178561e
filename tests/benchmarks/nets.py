"""How much of what the machine can multiply the networks reach, forwards and backwards."""

from collections.abc import Callable, Iterator

import torch
from measure import Row, compare
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from wsss.machine.runtime import Runtime
from wsss.nets.build import build_backbone

NETS = (
    ("resnet50", 224, 4),
    ("resnet101_caffe", 161, 2),
    ("resnet38", 128, 1),
    ("deit_small_patch16_224", 224, 8),
    ("deit_base_distilled_patch16_224", 224, 4),
)
MATRIX = 1536


def arithmetic() -> Iterator[Row]:
    """Compare each network with a large matrix product measured in turns with it."""
    runtime = Runtime.start("auto")
    matrices = torch.randn(2, MATRIX, MATRIX, device=runtime.device)
    product = 2 * MATRIX**3 / 1e9
    for name, side, batch in NETS:
        net = runtime.place(build_backbone(name, 16))
        images = runtime.send(torch.randn(batch, 3, side, side))
        for what, run in (("forwards", forwards), ("a training step", there_and_back)):
            work = run(net, images)
            with FlopCounterMode(display=False) as counter:
                work()
            both = compare(lambda: (matrices[0] @ matrices[1]).sum().item(), work, rounds=6)
            rates = (product / both[0].wall_s, counter.get_total_flops() / 1e9 / both[1].wall_s)
            setting = f"batch {batch}, {side} px"
            yield Row(f"{name}, {what}", setting, "GFLOP/s", *rates, None, "", 0.5, WHY)


WHY = "Small or dilated convolutions and normalisation wait for memory, not for arithmetic."


def forwards(net: nn.Module, images: torch.Tensor) -> Callable[[], float]:
    """Return a forward pass that waits for its result."""
    net.eval()

    @torch.inference_mode()
    def work() -> float:
        return float(net(images)[-1].sum())

    return work


def there_and_back(net: nn.Module, images: torch.Tensor) -> Callable[[], float]:
    """Return a forward and a backward pass that wait for their result."""
    net.train()

    def work() -> float:
        net.zero_grad(set_to_none=True)
        loss = net(images)[-1].square().mean()
        loss.backward()
        return float(loss.detach())

    return work
