"""Frozen networks: unit vectors and colours on the grid of the affinities."""

import pytest
import torch

from wsss.errors import ConfigError
from wsss.nets.affinitynet import build_affinity_network
from wsss.nets.backbone import IMAGENET
from wsss.nets.frozen import COLOURS, FrozenNet
from wsss.settings import FrozenParams
from wsss.settings.resolve import validate_params


@pytest.mark.parametrize(
    ("name", "channels"),
    [("toy", 32), ("vit_toy", 64), ("tf_efficientnet_lite0", 24), ("vit_tiny_patch16_224", 192)],
)
def test_features_are_unit_vectors_on_the_grid(name: str, channels: int) -> None:
    settings = {"kind": "frozen", "backbone": name, "stride": 4}
    net = build_affinity_network(validate_params({"affinity": settings}).affinity).eval()
    with torch.inference_mode():
        features = net(torch.randn(2, 3, 32, 48))
    assert features.shape == (2, channels + COLOURS, 8, 12)
    assert features[:, :-COLOURS].norm(dim=1).allclose(torch.ones(2, 8, 12), atol=1e-5)


def test_several_layers_share_the_length_of_the_vector() -> None:
    net = FrozenNet("toy", 4, FrozenParams(layers=(0, -1), enlarge=1.0)).eval()
    with torch.inference_mode():
        features = net(torch.randn(1, 3, 32, 32))[:, :-COLOURS]
    assert features.shape[1] == 32 + 64
    assert features[:, :32].norm(dim=1).allclose(torch.full((1, 8, 8), 0.5**0.5), atol=1e-5)


def test_differences_of_colours_are_those_of_the_image() -> None:
    image = torch.rand(1, 3, 8, 8)
    mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET)
    net = FrozenNet("toy", 8, FrozenParams()).eval()
    with torch.inference_mode():
        first, second = (net((part - mean) / std)[0, -COLOURS:] for part in (image, 0.5 * image))
    assert (first - second).allclose(0.5 * image[0].mean((1, 2), keepdim=True), atol=1e-5)


def test_a_layer_that_the_backbone_lacks_is_named() -> None:
    with pytest.raises(ConfigError, match=r"layers has \[7\], but toy has 3 feature maps: 0 to 2"):
        FrozenNet("toy", 4, FrozenParams(layers=(7,)))


def test_a_trained_network_is_no_frozen_one() -> None:
    affinity = {"kind": "frozen", "checkpoint": "psa.pth"}
    with pytest.raises(ConfigError, match="with kind frozen set weights or initial_file"):
        validate_params({"affinity": affinity})
