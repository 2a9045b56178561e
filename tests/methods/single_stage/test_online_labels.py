"""Labels from CAMs: thresholds, boxes, pairs, refinement."""

import torch

from wsss.methods.single_stage import online_labels
from wsss.methods.single_stage.online_labels import Thresholds

SURE = Thresholds(0.7, 0.25)


def scores(*values: float) -> torch.Tensor:
    """Return the maps (1, 2, 1, n) of a first class with these scores and a second without."""
    first = torch.tensor(values)[None, None, None]
    return torch.cat([first, torch.zeros_like(first)], 1)


def test_what_is_between_the_thresholds_is_neither() -> None:
    found = online_labels.three_way(scores(0.1, 0.25, 0.5, 0.7, 0.9), SURE)
    assert found.flatten().tolist() == [0, 0, 255, 255, 1]
    regions = online_labels.regions(scores(0.1, 0.25, 0.5, 0.7, 0.9), SURE)
    assert regions.flatten().tolist() == [0, 0, 1, 2, 2]


def test_outside_its_box_an_image_says_nothing() -> None:
    found = online_labels.boxed(
        torch.zeros(1, 3, 4, dtype=torch.long), torch.tensor([[1, 0, 3, 2]])
    )
    assert found[0].tolist() == [[255] * 4, [0, 0, 255, 255], [0, 0, 255, 255]]


def test_a_box_in_cells_has_every_cell_that_it_touches() -> None:
    boxes = torch.tensor([[6, 5, 56, 76], [0, 0, 64, 80], [8, 0, 57, 1]])
    assert online_labels.cells_of(boxes, 8).tolist() == [[0, 0, 7, 10], [0, 0, 8, 10], [1, 0, 8, 1]]


def test_pairs_are_symmetric_and_silent_on_the_diagonal() -> None:
    found = online_labels.pairs(torch.tensor([[[0, 1], [255, 1]]]))[0]
    assert torch.equal(found, found.T)
    assert (found.diagonal() == 255).all()
    assert found[1, 3] == 1
    assert found[0, 1] == 0
    assert (found[2] == 255).all()


def test_refined_labels_are_of_the_image_s_own_classes_and_equal_for_any_company() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 32, 32, generator=generator)
    present = torch.tensor([[1.0, 0, 0, 1, 1], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]])
    valid = online_labels.valid_cam(torch.rand(3, 5, 32, 32, generator=generator), present)
    boxes = torch.tensor([[0, 0, 32, 32], [4, 0, 32, 20], [0, 0, 32, 32]])
    found = online_labels.refined(images, valid, present, boxes, SURE, 2)
    for number, own in enumerate(present):
        allowed = {0, 255, *(own.nonzero().flatten() + 1).tolist()}
        assert set(found[number].unique().tolist()) <= allowed
        one = slice(number, number + 1)
        alone = online_labels.refined(images[one], valid[one], present[one], boxes[one], SURE, 2)
        assert torch.equal(alone[0], found[number])


def test_colours_that_are_cut_are_at_most_one_too_small() -> None:
    colours = torch.arange(256.0)[None, None, None].expand(1, 3, 1, 256)
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    images = (colours - mean[:, None, None]) / std[:, None, None]
    whole = online_labels.unit_images(images, mean, std, truncate=False) * 255
    cut = online_labels.unit_images(images, mean, std, truncate=True) * 255
    assert torch.equal(whole.round(), colours)
    assert ((whole - cut).round() <= 1).all()
    assert (cut <= whole).all()
