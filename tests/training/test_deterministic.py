"""train.deterministic: every training step has deterministic algorithms, and nothing else changes."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from wsss.machine.runtime import deterministic
from wsss.methods.base import Computed, load_method
from wsss.nets.affinitynet import build_affinity_network
from wsss.nets.deeplab import build_deeplab, pixel_loss
from wsss.settings import Params, method_spec
from wsss.settings.resolve import resolve_settings
from wsss.stages.affinity import OBJECTIVES
from wsss.stages.segmenter import Segmentation

CLASSES = 4
LATE = 1_000_000  # a step by which every term of a loss counts
# Operations that raise an error on a GPU under `use_deterministic_algorithms` (its documentation).
# Bilinear and bicubic resizing are left out: interpolate() has another way for them there.
REFUSED_ON_GPUS = {
    "_adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool3d_backward",
    "_upsample_bicubic2d_aa_backward",
    "_upsample_bilinear2d_aa_backward",
    "adaptive_max_pool2d_backward",
    "avg_pool3d_backward",
    "fractional_max_pool2d_backward",
    "grid_sampler_2d_backward",
    "histc",
    "max_unpool2d",
    "median",
    "put_",
    "reflection_pad1d_backward",
    "reflection_pad2d_backward",
    "scatter_reduce",
    "scatter_reduce_",
}
SUMMED_ON_GPUS = {"nll_loss2d_forward"}  # they refuse sums and means over pixels


class Refusing(TorchDispatchMode):
    """Fails on the operations that a GPU refuses, on any device."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        """Do an operation, unless GPUs refuse it."""
        name = func.overloadpacket.__name__
        assert name not in REFUSED_ON_GPUS, name
        if name in SUMMED_ON_GPUS:
            assert args[3] == 0, f"{name} with a reduction"
        return func(*args, **(kwargs or {}))


def batch(count: int = 3) -> dict[str, Any]:
    torch.manual_seed(1)
    label = torch.zeros(count, CLASSES)
    label[:, 1] = label[0, 3] = 1
    mask = torch.zeros(count, 64, 64, dtype=torch.uint8)
    mask[:, 8:40, 8:40], mask[:, 50:] = 2, 255
    return {
        "image": torch.randn(count, 3, 64, 64),
        "label": label,
        "mask": mask.long(),
        "name": [str(i) for i in range(count)],
        "number": torch.arange(count),
        "content": torch.tensor([[0, 0, 64, 64]]).expand(count, -1),
    }


def networks_of(name: str) -> Iterator[Callable[[], Mapping[str, Tensor]]]:
    """Yield the losses of every trained network of a method's chain."""
    method = load_method(name)(
        resolve_settings(Params(), "shapes", name, "common").networks, CLASSES
    )
    nets: dict[str, nn.Module] = {}
    for network, entry in method_spec.spec(name).networks.items():
        if entry.computed:
            with torch.inference_mode():
                tensors = method.compute(network, nets, lambda *_: iter([batch()]))
            nets[network] = Computed({key: tensor.clone() for key, tensor in tensors.items()})
        else:
            nets[network] = method.build(network)
            yield lambda network=network: method.losses(network, nets, batch(), LATE)  # type: ignore[misc]


LEARNING = [
    name
    for name in method_spec.methods()
    if any(not network.given for network in method_spec.spec(name).networks.values())
]


@pytest.mark.parametrize("name", LEARNING)
def test_a_step_of_every_method_has_deterministic_algorithms(name: str) -> None:
    for losses in networks_of(name):
        with deterministic(True), Refusing():
            torch.stack([term.float() for term in losses().values()]).sum().backward()


@pytest.mark.parametrize("kind", ["affinitynet", "irn"])
def test_a_step_of_affinity_networks_has_deterministic_algorithms(kind: str) -> None:
    settings = resolve_settings(Params(), "shapes", "cam", "common").affinity
    params = settings.model_copy(update={"kind": kind})
    objective = OBJECTIVES[params.kind](build_affinity_network(params), params)
    with deterministic(True), Refusing():
        torch.stack(list(objective(batch(), 0).values())).sum().backward()


def test_a_step_of_the_segmenter_has_deterministic_algorithms() -> None:
    params = resolve_settings(Params(), "shapes", "cam", "common").segmenter
    objective = Segmentation(build_deeplab(params, CLASSES), params)
    with deterministic(True), Refusing():
        torch.stack(list(objective(batch(), 0).values())).sum().backward()


def test_the_loss_of_pixels_is_the_same() -> None:
    torch.manual_seed(0)
    logits, masks = torch.randn(2, 5, 16, 16), batch(2)["mask"]
    with deterministic(True):
        repeatable = pixel_loss(logits, masks)
    assert repeatable.item() == pytest.approx(pixel_loss(logits, masks).item(), rel=1e-6)


def test_the_mode_ends_with_its_block_and_off_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark
