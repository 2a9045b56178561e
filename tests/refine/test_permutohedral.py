"""The bilateral filter on the permutohedral lattice."""

import torch

from wsss.refine.permutohedral import bilateral, gaussian


def test_a_constant_picture_spreads_values_evenly_and_keeps_mirrors() -> None:
    image = torch.full((3, 20, 20), 90.0)
    values = torch.zeros(1, 20, 20)
    values[0, 10, 10] = 1.0
    found = bilateral(image, values, 15, 5)
    assert found.min() >= 0
    assert found[0, 10, 10] > found[0, 10, 16] > found[0, 10, 19]


def test_values_stop_at_edges_of_colour() -> None:
    image = torch.zeros(3, 16, 32)
    image[..., 16:] = 200
    values = torch.zeros(1, 16, 32)
    values[..., :16] = 1.0
    found = bilateral(image, values, 15, 50)
    assert found[..., :16].min() > 100 * found[..., 16:].max()


def test_the_filter_is_linear() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(60, 5, generator=generator) * 3
    first, second = torch.rand(2, 60, 4, generator=generator)
    both = gaussian(points, first + 2 * second)
    assert torch.allclose(both, gaussian(points, first) + 2 * gaussian(points, second), atol=1e-4)


def test_far_points_do_not_meet() -> None:
    points = torch.tensor([[0.0, 0.0], [100.0, 100.0]])
    found = gaussian(points, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert found[0, 1] == found[1, 0] == 0
    assert found[0, 0] > 0
