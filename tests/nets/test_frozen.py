"""Frozen networks: unit vectors and colours on the grid of the affinities."""

import pytest
import torch

from wsss.errors import ConfigError
from wsss.nets.affinitynet import build_affinity_network
from wsss.nets.backbone import IMAGENET
from wsss.nets.frozen import FrozenNet, measure_unit
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
    assert features.shape == (2, channels, 8, 12)
    assert features.norm(dim=1).allclose(torch.ones(2, 8, 12), atol=1e-5)


def test_several_layers_share_the_length_of_the_vector() -> None:
    net = FrozenNet("toy", 4, FrozenParams(layers=(0, -1), enlarge=1.0)).eval()
    with torch.inference_mode():
        features = net(torch.randn(1, 3, 32, 32))
    assert features.shape[1] == 32 + 64
    assert features[:, :32].norm(dim=1).allclose(torch.full((1, 8, 8), 0.5**0.5), atol=1e-5)


def test_colours_add_their_weighted_distance() -> None:
    image = torch.rand(1, 3, 8, 16)
    mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET)
    plain, coloured = (FrozenNet("toy", 8, FrozenParams(colours=c)).eval() for c in (0.0, 30.0))
    coloured.load_state_dict(plain.state_dict())
    with torch.inference_mode():
        distances = [
            (cells[..., 0] - cells[..., 1]).square().sum() / 2
            for cells in (net((image - mean) / std) for net in (plain, coloured))
        ]
    colours = image.unflatten(3, (2, 8)).mean((2, 4))
    expected = 30 * (colours[..., 0] - colours[..., 1]).square().sum()
    assert float(distances[1] - distances[0]) == pytest.approx(float(expected), rel=1e-3)


def test_the_unit_is_the_geometric_mean_distance_of_adjacent_cells() -> None:
    net = FrozenNet("toy", 4, FrozenParams(enlarge=1.0)).eval()
    images = torch.rand(2, 3, 8, 8)
    with torch.inference_mode():
        cells = net.features(images).flatten(2)
        pairs = [(0, 1), (2, 3), (0, 2), (1, 3)]
        distances = [1 - (cells[:, :, a] * cells[:, :, b]).sum(1) for a, b in pairs]
        expected = 1.6 * torch.cat(distances).clamp_min(0.01).log().mean().exp()
        measure_unit(net, images.split(1))
        assert float(net.unit) == pytest.approx(float(expected), rel=1e-5)
        scaled = net(images).flatten(2)
        half = (scaled[:, :, 0] - scaled[:, :, 1]).square().sum(1) / 2
        assert half.allclose(distances[0] / net.unit, rtol=1e-3, atol=1e-4)


def test_a_layer_that_the_backbone_lacks_is_named() -> None:
    with pytest.raises(ConfigError, match=r"layers has \[7\], but toy has 3 feature maps: 0 to 2"):
        FrozenNet("toy", 4, FrozenParams(layers=(7,)))


def test_a_trained_network_is_no_frozen_one() -> None:
    affinity = {"kind": "frozen", "checkpoint": "psa.pth"}
    with pytest.raises(ConfigError, match="with kind frozen set weights or initial_file"):
        validate_params({"affinity": affinity})
