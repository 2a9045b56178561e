"""A GPU computes what a processor computes: networks, PAR, the bilateral filter, the random walk."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from wsss.machine.runtime import Runtime
from wsss.methods.base import load_method
from wsss.nets.affinitynet import build_affinity_network
from wsss.nets.deeplab import build_deeplab
from wsss.refine import par
from wsss.refine.affinity import pair_affinities, path_affinities
from wsss.refine.permutohedral import bilateral
from wsss.refine.random_walk import random_walks, transition_rows
from wsss.settings import Params, method_spec
from wsss.settings.resolve import resolve_settings

CLASSES = 4
TOLERANCE = 1e-4  # of the largest value; sums in another order, without TF32
METHODS = [
    name
    for name in method_spec.methods()
    if any(not network.computed for network in method_spec.spec(name).networks.values())
]


@pytest.fixture(params=["cpu", "cuda"])
def runtime(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """Return a place to compute at in 32 bits, without TF32. cpu: networks in another memory format."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    return Runtime(torch.device(request.param), torch.float32)


def close(result: Tensor, expected: Tensor) -> None:
    """Fail if two results differ by more than rounding."""
    difference = (result.detach().cpu() - expected.detach()).abs().max()
    assert difference <= TOLERANCE * expected.detach().abs().max(), float(difference)


def same_network(net: torch.nn.Module, runtime: Runtime, size: tuple[int, int] = (64, 96)) -> None:
    """Fail if a network's outputs are not those of its copy on the processor."""
    images = torch.randn(2, 3, *size)
    placed = runtime.place(copy.deepcopy(net).eval())
    with torch.no_grad():
        expected, result = net.eval()(images), placed(runtime.send(images))
    pairs = (
        zip(result, expected, strict=True) if isinstance(result, tuple) else [(result, expected)]
    )
    for one, other in pairs:
        close(one, other)


@pytest.mark.parametrize("name", METHODS)
def test_the_cams_of_every_method_are_the_same(name: str, runtime: Runtime) -> None:
    method = load_method(name)(
        resolve_settings(Params(), "shapes", name, "common").networks, CLASSES
    )
    torch.manual_seed(0)
    net = method.build(str(method_spec.spec(name).cam_network)).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = method.cam(net, images)
        result = method.cam(runtime.place(copy.deepcopy(net)), runtime.send(images))
    close(result, expected)


def test_segmenters_and_affinity_networks_are_the_same(runtime: Runtime) -> None:
    settings = resolve_settings(Params(), "shapes", "cam", "common")
    torch.manual_seed(0)
    same_network(build_deeplab(settings.segmenter, CLASSES), runtime)
    for kind in ("affinitynet", "irn"):
        params = settings.affinity.model_copy(update={"kind": kind})
        same_network(build_affinity_network(params), runtime)


def test_par_and_the_bilateral_filter_are_the_same(runtime: Runtime) -> None:
    torch.manual_seed(0)
    images, scores = torch.rand(1, 3, 40, 56), torch.rand(1, 3, 40, 56)
    device = runtime.device
    close(par.refine(images.to(device), scores.to(device)), par.refine(images, scores))
    expected = bilateral(images[0] * 255, scores[0], 15.0, 50.0)
    close(bilateral((images[0] * 255).to(device), scores[0].to(device), 15.0, 50.0), expected)


def test_the_affinities_of_pairs_are_the_same(runtime: Runtime) -> None:
    torch.manual_seed(0)
    for values, pairs in (
        (torch.rand(2, 20, 24), path_affinities),
        (torch.rand(2, 8, 20, 24), pair_affinities),
    ):
        gradients = []
        for device in ("cpu", runtime.device):
            leaf = values.clone().to(device).requires_grad_()
            torch.stack([alike.square().sum() for _, alike in pairs(leaf, 5)]).sum().backward()
            gradients.append(leaf.grad)
        expected, result = gradients
        assert expected is not None
        assert result is not None
        close(result, expected)


def test_the_random_walk_is_the_same(runtime: Runtime) -> None:
    torch.manual_seed(0)
    pairs = list(path_affinities(torch.rand(1, 20, 24), 5))
    maps = np.random.default_rng(0).random((2, 20, 24), np.float32)
    expected, result = (
        random_walks([maps], transition_rows(on_device, 20, 24, 10.0), 64)[0]
        for on_device in (pairs, [(offset, alike.to(runtime.device)) for offset, alike in pairs])
    )
    assert np.abs(result - expected).max() < 1e-10
