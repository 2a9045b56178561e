"""IRN on other backbones than its own: shapes, padding, mirroring, the mean of displacements."""

import pytest
import torch

from wsss.nets.irn import IRN, edge_displacement, measure_mean
from wsss.settings import IrnParams

SMALL = {"edge_channels": 8, "displacement_channels": 32}


def toy(stride: int = 8, **changes: int) -> IRN:
    torch.manual_seed(0)
    return IRN("toy", stride, IrnParams(**{**SMALL, **changes})).eval()


@pytest.mark.parametrize(("stride", "cells"), [(4, (16, 12)), (8, (16, 12)), (32, (16, 12))])
def test_heads_work_at_the_stride_of_the_finest_feature(
    stride: int, cells: tuple[int, int]
) -> None:
    edge, displacement = toy(stride)(torch.randn(2, 3, 61, 45))
    assert edge.shape == (2, 1, *cells)
    assert displacement.shape == (2, 2, *cells)


def test_every_weight_of_the_heads_learns() -> None:
    net = toy().train()
    edge, displacement = net(torch.randn(2, 3, 64, 64))
    (edge.mean() + displacement.abs().mean()).backward()
    assert not [name for name, weight in net.named_parameters() if weight.grad is None]


def test_the_displacement_head_can_be_left_out() -> None:
    net = toy(displacement_channels=0)
    edge, displacement = edge_displacement(net, torch.randn(1, 3, 32, 32), 64)
    measure_mean(net, [torch.randn(1, 3, 32, 32)])
    assert (edge.shape, displacement) == ((1, 1, 8, 8), None)


def test_corners_are_aligned_if_asked() -> None:
    x = torch.randn(1, 3, 64, 64)
    assert not torch.allclose(toy()(x)[0], toy(align_corners=True)(x)[0])


def test_images_larger_than_the_padded_side_are_whole() -> None:
    edge, displacement = edge_displacement(toy(), torch.randn(1, 3, 45, 83), 64)
    assert edge.shape[2:] == displacement.shape[2:] == (12, 21)


@torch.inference_mode()
def test_boundaries_of_a_mirrored_image_are_mirrored() -> None:
    net, images = toy(), torch.randn(2, 3, 64, 64)
    straight, _ = edge_displacement(net, images, 64)
    mirrored, _ = edge_displacement(net, images.flip(3), 64)
    assert torch.allclose(straight, mirrored.flip(3), atol=1e-6)
    assert straight.min() > 0
    assert straight.max() < 1


@torch.inference_mode()
def test_displacements_have_no_mean_once_it_is_measured() -> None:
    net, batches = toy(), [torch.randn(2, 3, 64, 64) for _ in range(3)]
    measure_mean(net, batches)
    measured = net.displacement.mean.clone()
    measure_mean(net, batches)
    assert torch.equal(net.displacement.mean, measured)
    left = torch.stack([net(batch)[1].mean((0, 2, 3)) for batch in batches]).mean(0)
    assert left.abs().max() < 1e-6 < measured.abs().max()
    assert not torch.allclose(net.train()(batches[0])[1], net.eval()(batches[0])[1])
