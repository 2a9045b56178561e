"""Pixel-adaptive refinement: constants stay, scores stop at edges, weights sum to 1.01."""

import torch

from wsss.refine import par


def two_halves(size: int = 32) -> torch.Tensor:
    """Return a picture that is dark on the left and bright on the right."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, size, size, generator=generator) * 0.05 + 0.2
    image[..., size // 2 :] += 0.5
    return image


def test_constant_scores_grow_by_one_percent_each_time() -> None:
    found = par.refine(two_halves(), torch.full((1, 2, 32, 32), 0.4), iterations=10)
    assert torch.allclose(found, torch.full_like(found, 0.4 * 1.01**10))


def test_scores_spill_to_the_edge_of_a_picture_and_not_beyond() -> None:
    scores = torch.zeros(1, 1, 32, 32)
    scores[..., :10] = 1.0
    found = par.refine(two_halves(), scores, dilations=(1, 2, 4), iterations=10)[0, 0]
    assert found[:, 10:16].mean() > 0.2
    assert found[:, 16:].mean() < 0.02


def test_refining_commutes_with_a_mirror() -> None:
    image, scores = two_halves(), torch.rand(1, 3, 32, 32)
    found = par.refine(image, scores, iterations=3)
    mirrored = par.refine(image.flip(3), scores.flip(3), iterations=3)
    assert torch.allclose(found, mirrored.flip(3), atol=1e-5)


def test_scores_of_another_size_are_resized_to_the_picture() -> None:
    assert par.refine(two_halves(), torch.rand(1, 3, 8, 8)).shape == (1, 3, 32, 32)
